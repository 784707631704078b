// The view for operators: users, invitations, the audit and the health of the service, each loaded when its tab opens.

import { ConnectionLost } from "./api.js";
import { explain, startForUser } from "./lists.js";
import { $, showNotice } from "./page.js";

const TABS = {
  users: () => import("./admin_users.js"),
  invitations: () => import("./admin_invitations.js"),
  audit: () => import("./admin_audit.js"),
  health: () => import("./admin_health.js"),
};

const nameOfTab = () => (location.hash.slice(1) in TABS ? location.hash.slice(1) : "users");

/** Load a tab; return why that failed. */
async function load(name, user) {
  try {
    const { show } = await TABS[name]().catch(() => {
      throw new ConnectionLost();
    });
    await show(user);
    return "";
  } catch (error) {
    return explain(error);
  }
}

/** Show the tab that the address names. */
async function showTab(user) {
  const name = nameOfTab();
  const problem = await load(name, user);
  // Another tab may have been chosen meanwhile.
  if (name !== nameOfTab()) return;
  for (const link of $("tabs").children) {
    const isCurrent = link.hash === `#${name}`;
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    $(`${link.hash.slice(1)}-panel`).hidden = !isCurrent || Boolean(problem);
  }
  $("tab-problem").textContent = problem;
  $("tab-problem").hidden = !problem;
}

const start = startForUser("admin", (user) => {
  if (user.operator) return showTab(user);
  showNotice("operators_only");
  return false;
});
addEventListener("hashchange", start);

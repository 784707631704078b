// The operators' list of users: disable and enable them, make them operators and revoke that.

import { ask, copyOf, fillList, request } from "./lists.js";
import { $, formatMinute, t } from "./page.js";

/** Show a user; operators cannot change their own accounts. */
function draw(row, user, isOwn) {
  const [disable, promote] = row.querySelectorAll("button");
  row.querySelector("bdi").textContent = user.username;
  const badges = [user.operator, user.disabled, isOwn];
  for (const [at, badge] of [...row.querySelectorAll(".badge")].entries()) badge.hidden = !badges[at];
  row.querySelector("p").textContent = [
    t("registered_at", { time: formatMinute(user.created_at) }),
    user.last_login_at ? t("signed_in_at", { time: formatMinute(user.last_login_at) }) : t("never_signed_in"),
  ].join(" · ");
  const change = (button, action, body) => {
    const word = t(`action_${action}`);
    button.textContent = word;
    button.classList.toggle("danger", action === "disable" || action === "revoke");
    button.hidden = isOwn;
    button.setAttribute("aria-label", t("action_for", { action: word, name: user.username }));
    button.onclick = () => {
      let changed;
      ask(
        t(`ask_${action}`, { name: user.username }),
        word,
        async () => (changed = await request("PATCH", `users/${user.user_id}`, body)),
        () => {
          draw(row, changed, isOwn);
          button.focus();
        },
      );
    };
  };
  change(disable, user.disabled ? "enable" : "disable", { disabled: !user.disabled });
  change(promote, user.operator ? "revoke" : "promote", { operator: !user.operator });
}

function rowFor(own) {
  return (user) => {
    const row = copyOf("user");
    draw(row, user, user.user_id === own.userId);
    return row;
  };
}

async function load(after) {
  const { users, next } = await request("GET", `users${after ? `?after=${after}` : ""}`);
  return { items: users, next };
}

/** Show the first users. */
export const show = (own) => fillList($("user-list"), load, rowFor(own));

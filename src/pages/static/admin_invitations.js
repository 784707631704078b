// The operators' invitations: create them, show their links once, list and delete them.

import { ROOT } from "./api.js";
import { showLink } from "./link_tools.js";
import { ask, copyOf, explain, fillList, removeRow, request } from "./lists.js";
import { $, formatExpiry, formatMinute, runBusy, t } from "./page.js";

const form = $("form");

function rowOf(invitation) {
  const row = copyOf("invitation");
  const [role, until, created] = row.querySelectorAll("h3, p");
  role.textContent = t(invitation.role === "operator" ? "role_operator" : "role_member");
  until.textContent = `${t("uses_left", { n: invitation.uses_left })} · ${t("valid_until", { time: formatExpiry(invitation.expires_at) })}`;
  const time = formatMinute(invitation.created_at);
  created.textContent = invitation.created_by ? t("invited_by", { time, name: invitation.created_by }) : t("invited_at", { time });
  const button = row.querySelector("button");
  button.setAttribute("aria-label", t("delete_invitation", { time }));
  button.addEventListener("click", () =>
    ask(t("invitation_ask"), t("delete_now"), () => request("DELETE", `invitations/${invitation.id}`), () => removeRow(row)),
  );
  return row;
}

async function load() {
  const { invitations } = await request("GET", "invitations");
  return { items: invitations };
}

const list = () => fillList($("invitation-list"), load, rowOf);

/** Return a number from a field; undefined if the field does not allow it. */
function numberOf(field) {
  const isValid = field.value !== "" && field.checkValidity();
  field.setAttribute("aria-invalid", String(!isValid));
  return isValid ? Number(field.value) : undefined;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [uses, days] = [numberOf($("uses")), numberOf($("days"))];
  let problem = "";
  if (!uses || !days) {
    problem = t("invitation_invalid");
  } else {
    try {
      await runBusy($("invite"), async () => {
        const body = { role: $("role").value, uses, expires_in_days: days };
        const { invitation } = await request("POST", "invitations", body);
        // Behind a proxy, the server may not know its own address. This page was loaded from it.
        await showLink(`${ROOT}join#${invitation}`);
        $("invited").hidden = false;
        await list();
      });
    } catch (error) {
      problem = explain(error);
    }
  }
  $("form-problem").textContent = problem;
  if (problem) (form.querySelector("[aria-invalid=true]") ?? $("invite")).focus();
  else $("invited").focus();
});

/** Show the invitations. */
export async function show() {
  $("invited").hidden = true;
  $("link").value = "";
  await list();
}

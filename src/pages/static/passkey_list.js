// The passkeys of the account: adding, renaming and deleting them.

import { ConnectionLost } from "./api.js";
import { ask } from "./confirmation.js";
import { showItems } from "./items.js";
import { $, formatTime, runBusy, t } from "./page.js";
import { hasPasskeys, makePasskey, passkeyFailure } from "./passkeys.js";
import { explain } from "./rejections.js";
import { call } from "./session.js";

let readUser;
let onChange;

/** Show the passkeys, where the service has them; `user` returns the user, `changed` is called after each change. */
export async function startPasskeys({ sign_in: ways }, user, changed) {
  [readUser, onChange] = [user, changed];
  $("passkeys-card").hidden = !ways.includes("passkey");
  if ($("passkeys-card").hidden) return;
  $("passkey-form").hidden = !hasPasskeys;
  $("passkeys-insecure").hidden = hasPasskeys;
  await show();
}

async function show() {
  const { ok, body } = await call("GET", "passkeys");
  if (!ok) throw new ConnectionLost();
  showItems($("passkeys"), body.passkeys, (one) => ({
    title: one.name,
    text: one.last_used_at ? t("used", { time: formatTime(one.last_used_at) }) : t("made_unused", { time: formatTime(one.created_at) }),
    actions: [
      { label: t("rename"), act: () => rename(one) },
      { label: t("delete"), isDangerous: true, act: () => remove(one) },
    ],
  }));
}

async function rename({ id, name }) {
  const done = await ask({ title: t("rename_passkey"), label: t("rename"), name }, ({ name }) => call("PATCH", `passkeys/${id}`, { name }));
  if (done) await show();
}

async function remove({ id, name }) {
  const question = {
    title: t("delete_passkey", { name }),
    text: t("delete_passkey_text"),
    label: t("delete"),
    isDangerous: true,
    withPassword: readUser().signIn.includes("password"),
  };
  const done = await ask(question, ({ password }) => call("DELETE", `passkeys/${id}`, password ? { password } : {}));
  if (!done) return;
  await show();
  await onChange();
}

/** Add a passkey; return the text of a problem. */
async function add() {
  const name = $("passkey-name").value.trim();
  if (!name) return t("name_missing");
  const question = { title: t("add_passkey"), text: t("add_passkey_text"), label: t("continue") };
  const readOptions = ({ password }) => call("POST", "passkeys/options", password ? { password } : {});
  let result = await readOptions({});
  if (result.code === "sign_in_again") result = await ask(question, readOptions);
  if (!result) return;
  if (!result.ok) return explain(result, result.body);
  const { challenge, options } = result.body;
  let credential;
  try {
    credential = await makePasskey(options);
  } catch (error) {
    return t(passkeyFailure(error));
  }
  result = await call("POST", "passkeys", { challenge, name, credential });
  if (!result.ok) return explain(result, result.body);
  $("passkey-form").reset();
  $("said").textContent = t("passkey_added");
  await show();
  await onChange();
}

$("passkey-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  let problem;
  $("passkey-problem").textContent = "";
  try {
    await runBusy($("add-passkey"), async () => {
      problem = await add();
    });
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    problem = t("no_response");
  }
  $("passkey-problem").textContent = problem ?? "";
  if (problem) $("passkey-name").focus();
});

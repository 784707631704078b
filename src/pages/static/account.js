// The view of the account: its password, sessions and deletion. Other modules have its passkeys and API tokens.

import { ConnectionLost, ROOT, call as send } from "./api.js";
import { ask } from "./confirmation.js";
import { showItems } from "./items.js";
import { $, formatTime, runBusy, showNotice, showSection, startView, t, toggleOnClick } from "./page.js";
import { startPasskeys } from "./passkey_list.js";
import { explain } from "./rejections.js";
import { call, refreshUser, requireSession, signedOut } from "./session.js";
import { startTokens } from "./token_list.js";

const SHORTEST_PASSWORD = 8;
let user;

const hasPassword = () => user.signIn.includes("password");

/** Show in which ways the account signs in, after one has been added or removed. */
async function update() {
  user = await refreshUser();
  $("user").textContent = user.username;
  $("username").defaultValue = user.username;
  $("current-field").hidden = !hasPassword();
  $("password-none").hidden = hasPassword();
  $("change-password").textContent = t(hasPassword() ? "change_password" : "set_password");
  $("remove-password").hidden = !hasPassword() || user.signIn.length === 1;
}

async function showSessions() {
  const { ok, body } = await call("GET", "sessions");
  if (!ok) throw new ConnectionLost();
  showItems($("sessions"), body.sessions, (one) => ({
    title: one.current ? t("session_current") : t("session_since", { time: formatTime(one.created_at) }),
    text: t("session_used", { time: formatTime(one.refreshed_at) }),
    actions: one.current ? [] : [{ label: t("end"), isDangerous: true, act: () => endSession(one) }],
  }));
}

async function endSession({ id }) {
  // 404: it has ended meanwhile.
  await call("DELETE", `sessions/${id}`);
  await showSessions();
}

function setProblem(id, text = "") {
  $(`${id}-problem`).textContent = text;
  if (text) $(id).setAttribute("aria-invalid", "true");
  else $(id).removeAttribute("aria-invalid");
  if (text) $(id).focus();
}

/** Change or set the password; return the field with a problem and its text. */
async function changePassword() {
  const [current, password] = [$("current").value, $("new-password").value];
  if (hasPassword() && !current) return ["current", t("password_missing")];
  if ([...password].length < SHORTEST_PASSWORD) return ["new-password", t("password_short")];
  const body = { new: password, ...(hasPassword() ? { current } : {}) };
  let result = await call("PUT", "me/password", body);
  if (result.code === "sign_in_again") {
    result = await ask({ title: t("set_password"), text: t("again_needed"), label: t("set_password") }, () => call("PUT", "me/password", body));
    if (!result) return;
  }
  if (!result.ok) return [result.code === "incorrect_password" ? "current" : "new-password", explain(result, result.body)];
  $("password-form").reset();
  $("password-done").textContent = t("password_changed");
  await update();
  await showSessions();
}

async function removePassword() {
  const question = { title: t("remove_password"), text: t("remove_password_text"), label: t("remove_password"), isDangerous: true, withPassword: true };
  const done = await ask(question, ({ password }) => call("DELETE", "me/password", { current: password }));
  if (!done) return;
  await update();
  await showSessions();
  $("password-done").textContent = t("password_removed");
}

async function deleteAccount() {
  const question = { title: t("delete_account"), text: t("delete_account_text"), label: t("delete_account"), isDangerous: true, withPassword: hasPassword() };
  const done = await ask(question, ({ password }) => call("DELETE", "me", password ? { password } : {}));
  if (!done) return;
  signedOut();
  location.replace(ROOT);
}

async function start() {
  try {
    user = await requireSession();
    const service = await send("GET", "service");
    if (!service.ok) throw new ConnectionLost();
    $("ask-provider").textContent = t("with_provider", { name: service.answer.oidc_name });
    await update();
    await Promise.all([showSessions(), startPasskeys(service.answer, () => user, update), startTokens(service.answer)]);
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    return showNotice("no_answer", {}, start);
  }
  showSection("account");
}

$("password-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  let problem;
  for (const id of ["current", "new-password"]) setProblem(id);
  $("password-done").textContent = "";
  try {
    await runBusy($("change-password"), async () => {
      problem = await changePassword();
    });
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    problem = ["new-password", t("no_response")];
  }
  if (problem) setProblem(...problem);
});
$("remove-password").addEventListener("click", removePassword);
$("delete-account").addEventListener("click", deleteAccount);
toggleOnClick($("show-new-password"), $("new-password"));
startView(start);

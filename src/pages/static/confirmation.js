// A dialog before an action: it asks for a name, for the password, or for a new sign-in, as the server requires.

import { ConnectionLost, call as send } from "./api.js";
import { $, t } from "./page.js";
import { hasPasskeys, passkeyFailure, usePasskey } from "./passkeys.js";
import { explain } from "./rejections.js";
import { call, session, signedIn } from "./session.js";
import { rememberReturn } from "./signed_in.js";

const dialog = $("ask");
let perform;
let finish;
let outcome;

/**
 * Ask for an action, and perform it until it succeeds or the user cancels it; return its result, or null.
 *
 * `action` gets the `name` and `password` of the fields, and returns the result of its request.
 */
export async function ask({ title, text = "", label, isDangerous = false, name = null, withPassword = false }, action) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-text").hidden = !text;
  $("ask-yes").textContent = label;
  $("ask-yes").classList.toggle("danger", isDangerous);
  $("ask-name-field").hidden = name === null;
  $("ask-name").value = name ?? "";
  $("ask-password").value = "";
  $("ask-problem").textContent = "";
  showProof(withPassword ? "password" : null);
  perform = action;
  outcome = null;
  dialog.showModal();
  return new Promise((resolve) => (finish = resolve));
}

/** Ask for the password, for a new sign-in (`again`), or for neither (null). */
function showProof(proof) {
  $("ask-password-field").hidden = proof !== "password";
  $("ask-again").hidden = proof !== "again";
  $("ask-yes").hidden = proof === "again";
}

/** Ask for the proof that the server misses. */
async function showMissingProof() {
  const { signIn } = await session();
  if (signIn.includes("password")) {
    showProof("password");
    $("ask-password").focus();
    return;
  }
  $("ask-passkey").hidden = !(signIn.includes("passkey") && hasPasskeys);
  $("ask-provider").hidden = !signIn.includes("oidc");
  showProof("again");
}

async function submit() {
  if (!$("ask-password-field").hidden && !$("ask-password").value) {
    $("ask-problem").textContent = t("password_missing");
    $("ask-password").focus();
    return;
  }
  const result = await perform({ name: $("ask-name").value.trim(), password: $("ask-password").value || undefined });
  if (result.ok) {
    outcome = result;
    dialog.close();
  } else if (result.code === "sign_in_again" && $("ask-password-field").hidden) {
    await showMissingProof();
  } else {
    $("ask-problem").textContent = explain(result, result.body);
    if (!$("ask-password-field").hidden) $("ask-password").focus();
  }
}

/** Begin a new session with a passkey, in place of the current one, and perform the action. */
async function signInAgain() {
  const before = await session();
  const { body } = await call("GET", "sessions");
  const asked = await send("POST", "login/passkey/options", {});
  if (!asked.ok) return ($("ask-problem").textContent = explain(asked, asked.answer));
  let credential;
  try {
    credential = await usePasskey(asked.answer.options);
  } catch (error) {
    return ($("ask-problem").textContent = t(passkeyFailure(error)));
  }
  const proof = { challenge: asked.answer.challenge, credential, cookie: true };
  const result = await send("POST", "login/passkey", proof, { credentials: "same-origin" });
  if (!result.ok) return ($("ask-problem").textContent = explain(result, result.answer));
  const { username } = await signedIn(result.answer);
  // The passkey of another account: nothing of this one may happen.
  if (username !== before.username) return location.reload();
  const old = body.sessions?.find(({ current }) => current);
  if (old) await call("DELETE", `sessions/${old.id}`);
  showProof(null);
  await submit();
}

async function run(task) {
  const buttons = dialog.querySelectorAll("button");
  $("ask-problem").textContent = "";
  for (const button of buttons) button.disabled = true;
  try {
    await task();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    $("ask-problem").textContent = t("no_response");
  } finally {
    for (const button of buttons) button.disabled = false;
  }
  // A disabled button loses the focus.
  if (dialog.open && !dialog.contains(document.activeElement)) dialog.querySelector("button:not([hidden], [hidden] *)").focus();
}

$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  run(submit);
});
$("ask-passkey").addEventListener("click", () => run(signInAgain));
$("ask-provider").addEventListener("click", rememberReturn);
$("ask-no").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  $("ask-password").value = "";
  finish(outcome);
});

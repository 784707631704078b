// The view that opens a link: shows its state, and opens it when the reader asks to.

import { ConnectionLost, call, failureKey } from "./api.js";
import { now, timeUntil } from "./clock.js";
import { NotOpened, canEncrypt, deriveKeys, openText, testEncryption } from "./envelope.js";
import { fragmentOfUrl, linkKeyOfPath } from "./links.js";
import { $, copyOnClick, formatExpiry, formatTime, hideEncryptionClaims, runBusy, showNotice, showSection, startView, t, toggleOnClick } from "./page.js";
import { checkPassword } from "./password.js";

const isMessage = document.body.dataset.view === "message";
const isApiLink = location.pathname.includes("/secrets/");
// The section that shows the expiry, and the path of the status.
const section = isMessage ? "shown" : "waiting";
let path;
let link;
let expiresAt;
let asking = false;
let text = "";
// Whether a secret was opened that has not been decrypted yet: the server no longer has it.
let kept = false;

/** Return the keys in this page's URL; null if they are incomplete. */
async function readLink() {
  if (!isApiLink) return fragmentOfUrl(isMessage ? "m" : "s");
  const linkKey = linkKeyOfPath();
  return linkKey && { linkKey, fragmentKey: null };
}

async function start() {
  showSection("looking");
  const opened = history.state?.openedAt;
  if (opened) return showNotice("opened_here", { time: formatTime(opened) });
  if (!canEncrypt && !isApiLink) return showNotice("no_crypto");
  link = await readLink();
  if (!link) return showNotice("incomplete");
  path = `${isMessage ? "message" : "secrets"}/${link.linkKey}`;
  // Opening uses the secret up, so everything that can fail is tried first.
  if (!isApiLink) await testEncryption();
  $("sent").hidden = !link.wasSent;
  return isMessage ? showMessage() : showStatus();
}

/**
 * Send a request. Show a notice and return null if it fails, except for a wrong or missing password.
 * If `abandoned()` is true by then, return null without a notice.
 */
async function request(method, path, body, retry, lost, abandoned = () => false) {
  try {
    const result = await call(method, path, body);
    if (abandoned()) return null;
    if (!result.ok && !["incorrect_phrase", "phrase_required"].includes(result.code)) {
      showFailure(result, retry);
      return null;
    }
    return result;
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    if (!abandoned()) showNotice(lost, {}, retry);
    return null;
  }
}

function showFailure(result, retry) {
  const failed = failureKey(result);
  if (failed !== "gone") return showNotice(failed, { detail: result.answer.detail }, retry);
  const { state, opened_at: openedAt } = result.answer;
  // The clock is up to 1 second late.
  if (!state && expiresAt && timeUntil(expiresAt) < 1000) return showNotice(isMessage ? "expired_message" : "expired", { time: formatTime(expiresAt) });
  if (isMessage) return showNotice("gone_message");
  if (state === "opened") return showNotice("opened", { time: formatTime(openedAt) });
  return showNotice({ burned: "burned", locked: "locked" }[state] ?? "gone");
}

function showExpiry() {
  const element = $(isMessage ? "shown-left" : "waiting-until");
  const time = formatExpiry(expiresAt);
  const remark = isMessage ? t("message_until", { time }) : time;
  if (element.textContent !== remark) element.textContent = remark;
}

/** Show the remaining time, and ask the server when it is over: only the server knows whether the text has expired. */
async function checkExpiry() {
  const abandoned = () => $(section).hidden;
  if (asking || abandoned()) return;
  showExpiry();
  if (timeUntil(expiresAt) > 0) return;
  asking = true;
  const result = await request("GET", path, undefined, start, "offline", abandoned);
  asking = false;
  if (result) expiresAt = result.answer.expires_at;
  else if (isMessage) clearText();
}

async function showStatus() {
  const result = await request("GET", path, undefined, start, "offline");
  if (!result) return;
  const { phrase_required: hasPhrase, opens_left: left } = result.answer;
  expiresAt = result.answer.expires_at;
  showExpiry();
  $("waiting-views").textContent = t("waiting_views", { n: left });
  $("phrase-field").hidden = !hasPhrase;
  $("problem").textContent = "";
  showSection("waiting");
}

async function open() {
  const hasPhrase = !$("phrase-field").hidden;
  const phrase = hasPhrase ? $("phrase").value : "";
  const slips = ["password_blank", "password_capital"];
  // The terminal client sets longer passwords; only the verifier of those is sent.
  const problem = hasPhrase && (checkPassword($("phrase"), slips, link.fragmentKey ? Infinity : undefined) || (!phrase && "no_password"));
  if (problem) return showProblem(problem);
  $("problem").textContent = "";
  const keys = link.fragmentKey && (await deriveKeys(link.fragmentKey, phrase));
  const sent = keys ? keys.verifier : phrase;
  const result = await request("POST", path, sent ? { phrase: sent } : {}, start, "lost");
  if (!result) return;
  if (result.code === "phrase_required") return showStatus();
  if (result.code === "incorrect_phrase") {
    const left = result.answer.attempts_left;
    return left ? showProblem("wrong_password", { n: left }) : showNotice("locked");
  }
  await showOpened(result.answer, keys);
}

/** Show an opened secret. Until it has been decrypted, only this tab has it: keep it for a retry. */
async function showOpened(answer, keys) {
  kept = true;
  const left = answer.opens_left;
  $("shown-left").textContent = left ? t("shown_left", { n: left }) : t("shown_last");
  kept = !(await showText(answer.secret, keys, () => showOpened(answer, keys)));
  if (kept || left) return;
  // Going back or reloading must not request it again, and the key is no longer needed in the URL.
  history.replaceState({ openedAt: now().toISOString() }, "", link.fragmentKey ? location.pathname : undefined);
}

async function showMessage() {
  const result = await request("GET", path, undefined, start, "offline");
  if (!result) return;
  expiresAt = result.answer.expires_at;
  showExpiry();
  await showText(result.answer.message, await deriveKeys(link.fragmentKey), start);
}

/** Decrypt a text and show it; return whether that succeeded. `retry` is called by the button of the notice. */
async function showText(sealed, keys, retry) {
  try {
    text = keys ? await openText(sealed, keys) : sealed;
  } catch (error) {
    showNotice(error instanceof NotOpened ? "unreadable" : "failed", {}, retry);
    return false;
  }
  if (!isMessage) $("phrase").value = "";
  setVisible(true);
  showSection("shown");
  return true;
}

function setVisible(visible) {
  $("text").textContent = visible ? text : t("hidden");
  $("hide").textContent = t(visible ? "hide" : "show");
  $("hide").setAttribute("aria-pressed", String(!visible));
}

function showProblem(key, values) {
  $("problem").textContent = t(key, values);
  $("phrase").focus();
  $("phrase").select();
  $("problem").scrollIntoView({ block: "nearest" });
}

function clearText() {
  text = "";
  $("text").textContent = "";
  if (!isMessage) $("phrase").value = "";
}

if (!isMessage) {
  $("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    await runBusy($("open"), open);
  });
  toggleOnClick($("show-phrase"), $("phrase"));
}
$("hide").addEventListener("click", () => setVisible($("hide").getAttribute("aria-pressed") === "true"));
copyOnClick($("copy"), () => text);
addEventListener("pagehide", clearText);
addEventListener("pageshow", (event) => event.persisted && !kept && location.reload());
addEventListener("beforeunload", (event) => {
  // Older browsers read only this property.
  if (kept) event.returnValue = "kept";
});
addEventListener("hashchange", () => location.reload());
// A timer until the expiry would stop while the device sleeps.
setInterval(checkExpiry, 1000);
$(section).append($("about"));
if (isApiLink) hideEncryptionClaims();
startView(start);

// The view that opens a link: shows its state, and opens it when the reader asks to.

import { ConnectionLost, call, failureKey } from "./api.js";
import { now, timeUntil } from "./clock.js";
import { NotOpened, canEncrypt, deriveKeys, openText, testEncryption } from "./envelope.js";
import { confirmReceived, dropHold, heldUntil, isHeld, keepUntil, loadHold, prolongHold, readerKey } from "./hold.js";
import { fragmentOfUrl, linkKeyOfPath } from "./links.js";
import { $, copyOnClick, formatExpiry, formatTime, hideEncryptionClaims, runBusy, showNotice, showSection, startView, t, toggleOnClick } from "./page.js";
import { checkPassword } from "./password.js";

const isMessage = document.body.dataset.view === "message";
const isApiLink = location.pathname.includes("/secrets/");
// The section that shows the expiry, and the path of the status.
const section = isMessage ? "shown" : "waiting";
// Pauses before a request whose outcome is unknown is repeated.
const PAUSES_MS = [1000, 3000];
let path;
let link;
let expiresAt;
let asking = false;
let text = "";
// Whether a secret was opened that has not been decrypted yet: the server may no longer have it.
let kept = false;
// What this tab requested earlier, if it may have opened the secret.
let hold = null;
// Whether the outcome of a request is unknown.
let isUnsure = false;
let viewsLeft = 0;
// The module that shows files, once it is needed.
let files;

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
  if (isMessage) return showMessage();
  hold = loadHold(link.linkKey);
  isUnsure = Boolean(hold);
  return hold ? openAgain() : showStatus();
}

/** Send a request, and repeat it while its outcome is unknown. */
async function callUntilKnown(...request) {
  for (const pause of PAUSES_MS) {
    try {
      const result = await call(...request);
      if (![502, 503, 504].includes(result.status)) return result;
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error;
    }
    isUnsure = true;
    await new Promise((resume) => setTimeout(resume, pause));
  }
  return call(...request);
}

/**
 * Send a request. Show a notice and return null if it fails, except for a wrong or missing password.
 * If `abandoned()` is true by then, return null without a notice.
 */
async function request(method, path, body, retry, lost, abandoned = () => false) {
  try {
    const result = await (body?.reader ? callUntilKnown : call)(method, path, body);
    if (abandoned()) return null;
    // Refused: nothing has been opened, and the next click is a new request.
    if (body?.reader && !result.ok && !isUnsure) dropHold();
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
  const openedHere = Boolean(heldUntil());
  dropHold();
  if (state === "opened" && openedHere) return showNotice("opened_here", { time: formatTime(openedAt) });
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
  if (asking || abandoned() || !expiresAt) return;
  showExpiry();
  if (timeUntil(expiresAt) > 0) return;
  asking = true;
  const result = await request("GET", path, undefined, start, "offline", abandoned);
  asking = false;
  if (result) expiresAt = result.answer.expires_at;
  else if (isMessage) clearText();
}

/** Show the number and size of the files; return whether their module is there to open them. */
async function showFilesRow({ files: n, files_bytes: bytes }) {
  try {
    files = await import("./file_rows.js");
  } catch {
    return false;
  }
  $("waiting-files").textContent = t("files", { n, size: files.formatBytes(bytes) });
  $("files-row").hidden = false;
  return true;
}

async function showStatus() {
  const result = await request("GET", path, undefined, start, "offline");
  if (!result) return;
  const { phrase_required: hasPhrase, opens_left: left } = result.answer;
  // A browser may remember that a module has failed to load.
  if (result.answer.files && !(await showFilesRow(result.answer))) return showNotice("offline", {}, () => location.reload());
  expiresAt = result.answer.expires_at;
  showExpiry();
  $("waiting-views").textContent = `${t("waiting_views", { n: left })}${files ? ` ${t("waiting_device")}` : ""}`;
  $("phrase-field").hidden = !hasPhrase;
  $("problem").textContent = "";
  showSection("waiting");
}

/** Request a secret again that this tab has opened, or may have opened. */
async function openAgain() {
  if (!hold.hasPassword) return open();
  expiresAt = heldUntil();
  if (expiresAt) showExpiry();
  $("waiting-views").textContent = t("held_password");
  $("phrase-field").hidden = false;
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
  const body = { reader: readerKey(hasPhrase), ...(sent && { phrase: sent }) };
  const result = await request("POST", path, body, start, "lost");
  if (!result) return;
  if (result.code === "phrase_required") return showStatus();
  if (result.code === "incorrect_phrase") {
    const left = result.answer.attempts_left;
    return left ? showProblem("wrong_password", { n: left }) : showNotice("locked");
  }
  await showOpened(result.answer, keys);
}

/** Show an opened secret. Until it has been decrypted, perhaps only this tab has it: keep it for a retry. */
async function showOpened(answer, keys) {
  kept = true;
  viewsLeft = answer.opens_left;
  const isHeldNow = keepUntil(answer.held_until);
  kept = !(await showText(answer.secret, keys, () => showOpened(answer, keys), answer.files));
  showLeft();
  if (!kept && !isHeldNow) endHold();
}

function showLeft() {
  const views = viewsLeft ? t("shown_left", { n: viewsLeft }) : t(isHeld() ? "held_last" : "shown_last");
  $("shown-left").textContent = isHeld() ? `${t(files ? "held_files" : "held", { time: formatTime(heldUntil()) })} ${views}` : views;
  $("received").hidden = !isHeld();
}

/** Forget the keys of an opening: going back or reloading must not request it again. */
function endHold() {
  dropHold();
  files?.endFiles();
  showLeft();
  if (!viewsLeft) history.replaceState({ openedAt: now().toISOString() }, "", link.fragmentKey ? location.pathname : undefined);
}

/** Let the server delete its copy at once. */
async function receive() {
  if (files?.isUnfinished() && !confirm(t("files_left"))) return;
  try {
    const { ok, status } = await confirmReceived(path);
    if (ok || status === 404) return endHold();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
  }
  $("shown-left").textContent = t("busy_next");
}

async function showMessage() {
  const result = await request("GET", path, undefined, start, "offline");
  if (!result) return;
  expiresAt = result.answer.expires_at;
  showExpiry();
  await showText(result.answer.message, await deriveKeys(link.fragmentKey), start);
}

/** Prepare the rows of files; return the text. Throws `NotOpened`. */
async function openFiles(answer, keys) {
  files ??= await import("./file_rows.js");
  const opened = await files.openFiles(answer, keys);
  const onProgress = () => prolongHold() && showLeft();
  files.showFiles(opened, answer.files, { path, reader: readerKey(), onProgress, onHoldOver: endHold });
  return opened.text;
}

/** Decrypt a text and show it; return whether that succeeded. `retry` is called by the button of the notice. */
async function showText(sealed, keys, retry, listed) {
  try {
    if (listed) text = await openFiles({ secret: sealed, files: listed }, keys);
    else text = keys ? await openText(sealed, keys) : sealed;
  } catch (error) {
    showNotice(error instanceof NotOpened ? "unreadable" : "failed", {}, retry);
    return false;
  }
  if (!isMessage) $("phrase").value = "";
  for (const id of ["text", "copy", "hide"]) $(id).hidden = Boolean(listed && !text);
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
  files?.clearFiles();
}

if (!isMessage) {
  $("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    await runBusy($("open"), open);
  });
  toggleOnClick($("show-phrase"), $("phrase"));
  $("received").addEventListener("click", () => runBusy($("received"), receive));
}
$("hide").addEventListener("click", () => setVisible($("hide").getAttribute("aria-pressed") === "true"));
copyOnClick($("copy"), () => text);
addEventListener("pagehide", clearText);
addEventListener("pageshow", (event) => event.persisted && !kept && location.reload());
addEventListener("beforeunload", (event) => {
  // Older browsers read only this property.
  if (kept || files?.isUnfinished()) event.returnValue = "kept";
});
addEventListener("hashchange", () => location.reload());
// A timer until the expiry would stop while the device sleeps.
setInterval(() => {
  if (heldUntil() && !isHeld() && !kept && !files?.isRunning() && !$("shown").hidden) endHold();
  checkExpiry();
}, 1000);
$(section).append($("about"));
if (isApiLink) hideEncryptionClaims();
startView(start);

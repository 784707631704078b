// The view that shares: encrypts a text and shows its link.

import { ConnectionLost, ROOT, failureKey } from "./api.js";
import { utf8 } from "./bytes.js";
import { onFiles } from "./choose_files.js";
import { canEncrypt, deriveKeys, newFragmentKey, sealText, testEncryption, writeFragment } from "./envelope.js";
import { setKept } from "./kept.js";
import { showLink } from "./link_tools.js";
import { $, copyOnClick, formatExpiry, hideEncryptionClaims, runBusy, showSection, startView, t, toggleOnClick } from "./page.js";
import { checkPassword } from "./password.js";
import { newPassphrase, newPassword } from "./random.js";
import { callAsUser, rememberReturn, signedInName } from "./signed_in.js";
import { loadUnfinished } from "./unfinished.js";

// Bytes. Encrypted and base64-encoded, a longer text exceeds the server's limit of 1 MiB.
const MAX_TEXT_BYTES = 780000;
const form = $("form");
const canAttach = canEncrypt && Boolean($("attach"));
// The server lets only users share, and there is none.
const isLocked = () => Boolean($("locked")) && signedInName() === null;
const isMessage = () => form.elements.kind?.value === "message";
let receipt;
let receiptSaved = true;
// The module of attached files, loaded with the first file.
let attachments;

function clearProblems() {
  for (const problem of form.querySelectorAll(".problem")) problem.textContent = "";
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

/** Show a problem under its field, or under the button, and focus that. */
function showProblem({ key, values, field }) {
  clearProblems();
  const problem = $(field ? `${field}-problem` : "problem");
  problem.textContent = t(key, values);
  problem.closest("details")?.setAttribute("open", "");
  if ($(field ?? "create").matches("input, textarea")) $(field).setAttribute("aria-invalid", "true");
  $(field ?? "create").focus();
  problem.scrollIntoView({ block: "nearest" });
}

const hasFiles = () => Boolean(attachments && !attachments.isEmpty());

/** Return the first problem of the form; undefined if it can be sent. */
function findProblem() {
  const opens = Number($("opens").value);
  if (isLocked()) return { key: "create_unauthorized" };
  if (!canEncrypt && !$("server-side").checked) return { key: "insecure_refused", field: "server-side" };
  if (hasFiles() && isMessage()) return { key: "attach_not_message", field: "attach" };
  if (!$("text").value && !hasFiles()) return { key: canAttach ? "no_text_or_file" : "no_text", field: "text" };
  if (utf8($("text").value).length > MAX_TEXT_BYTES) return { key: "create_too_large", field: "text" };
  if (!isMessage() && !(Number.isInteger(opens) && opens >= 1 && opens <= 100)) return { key: "views_invalid", field: "opens" };
  const slip = !isMessage() && checkPassword($("phrase"), ["password_blank"]);
  if (slip) return { key: slip, field: "phrase" };
}

/** Replace the content of a field as typing does, so that the browser can undo it. */
function replaceContent(field, text) {
  field.focus({ preventScroll: true });
  field.select();
  // Deprecated, but nothing else keeps the undo history.
  document.execCommand(text ? "insertText" : "delete", false, text);
  if (field.value !== text) field.value = text;
}

/** Replace the content of a field when the button is clicked; `undo` brings each earlier content back. */
function generateOnClick(button, undo, field, generateText) {
  let replaced = [];
  button.addEventListener("click", () => {
    replaced.push(field.value);
    replaceContent(field, generateText());
    undo.hidden = false;
    button.focus();
  });
  undo.addEventListener("click", () => {
    replaceContent(field, replaced.pop());
    undo.hidden = !replaced.length;
    (undo.hidden ? button : undo).focus();
  });
  form.addEventListener("reset", () => {
    replaced = [];
    undo.hidden = true;
  });
}

/** Return the text and password to send, and the key of the link; the key is null if the server is to encrypt. */
async function prepareText(text, phrase) {
  if (!canEncrypt) return { text, phrase, fragmentKey: null };
  const fragmentKey = newFragmentKey();
  const keys = await deriveKeys(fragmentKey, phrase);
  const sealed = hasFiles() ? await attachments.seal(text, keys) : await sealText(text, keys);
  return { text: sealed, phrase: keys.verifier, fragmentKey };
}

/** Upload the files and share the text with them, which can change until all are uploaded. */
async function sendAll() {
  const problem = (await attachments.uploadAll()) ?? findProblem();
  if (problem) return problem;
  form.inert = true;
  try {
    return await send();
  } finally {
    form.inert = false;
  }
}

/** Share the text and show its link; return the problem if the server refuses. */
async function send() {
  const phrase = isMessage() ? "" : $("phrase").value;
  const sealed = await prepareText($("text").value, phrase);
  const ttl = $("ttl").value ? { ttl: { seconds: Number($("ttl").value) } } : {};
  const files = hasFiles() ? { files: attachments.uploadKeys().map((upload) => ({ upload })) } : {};
  const keep = $("keep-mine").checked && signedInName() !== null ? { keep: true } : {};
  const body = isMessage()
    ? { message: sealed.text, ...ttl, ...keep }
    : { secret: sealed.text, max_opens: Number($("opens").value), ...ttl, ...(sealed.phrase ? { phrase: sealed.phrase } : {}), ...files, ...keep };
  const result = await callAsUser("POST", isMessage() ? "" : "generate", body);
  if (!result.ok) {
    const failed = failureKey(result);
    if (result.answer.errors?.some(({ field }) => field.startsWith("files."))) {
      attachments.restart();
      return { key: "attach_gone", field: "attach" };
    }
    if (failed === "too_large") return { key: "create_too_large", field: "text" };
    const hasText = ["busy", "lost", "unauthorized"].includes(failed);
    return { key: hasText ? `create_${failed}` : "refused_text", values: { detail: result.answer.detail } };
  }
  await showResult(result.answer, sealed.fragmentKey, phrase);
}

async function showResult({ url, receipt_key: receiptKey, expires_at: expiresAt }, fragmentKey, phrase) {
  // Behind a proxy, the server may not know its own address. This page was loaded from it.
  const [path, key] = url.match(/\w+\/([^/]+)$/);
  const link = ROOT + (fragmentKey ? `${isMessage() ? "m" : "s"}#${await writeFragment(key, fragmentKey)}` : path);
  showLink(link);
  $("receipt-link").value = `${ROOT}r#${receiptKey}`;
  $("to-receipt").href = $("receipt-link").value;
  receipt = { key: receiptKey, created: new Date().toISOString(), expires: expiresAt };
  receiptSaved = false;
  $("keep-receipt").checked = false;
  const time = formatExpiry(expiresAt);
  $("result-until").textContent = isMessage() ? t("message_until", { time }) : t("created_secret", { n: Number($("opens").value), time });
  attachments?.clear();
  $("result-phrase").hidden = !phrase;
  $("result-plain").hidden = Boolean(fragmentKey);
  form.reset();
  if ($("phrase").type === "text") $("show-phrase").click();
  showKindFields();
  showSection("result");
}

/** Attach files, and show which cannot be attached. */
async function attach(choice) {
  clearProblems();
  let problem;
  try {
    const [files] = await Promise.all([choice, loadAttachments()]);
    problem = attachments.add(files);
  } catch {
    problem = { key: "attach_failed", field: "attach" };
  }
  if (problem) showProblem(problem);
}

async function loadAttachments() {
  attachments ??= await import("./attachments.js");
}

function showKindFields() {
  for (const id of ["secret-only", "opens-field"]) $(id).hidden = isMessage();
}

/** Offer what only users can do; where only they can share, ask for signing in before anything is entered. */
function showForUser() {
  $("keep-mine-field").hidden = signedInName() === null;
  if (isLocked() && !form.contains(document.activeElement) && !$("text").value && !hasFiles()) showSection("locked");
  else if ($("locked")?.hidden === false && !isLocked()) showSection("write");
}

form.addEventListener("change", showKindFields);
addEventListener("sessionchange", showForUser);
$("to-sign-in")?.addEventListener("click", rememberReturn);
// Not dir=auto, which takes a browser half a minute to lay out a long line.
$("text").addEventListener("input", ({ target }) => {
  target.dir = /^\P{L}*[\u0590-\u08ff\ufb1d-\ufefc]/u.test(target.value.slice(0, 1000)) ? "rtl" : "ltr";
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("create").click();
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  let problem = findProblem();
  if (problem) return showProblem(problem);
  clearProblems();
  try {
    await runBusy($("create"), async () => {
      problem = await (hasFiles() ? sendAll() : send());
    });
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    problem = { key: "create_lost" };
  }
  // Only now: a disabled button cannot get the focus.
  if (problem) showProblem(problem);
});
generateOnClick($("generate"), $("undo-text"), $("text"), () => ($("generated").value === "password" ? newPassword() : newPassphrase()));
generateOnClick($("new-phrase"), $("undo-phrase"), $("phrase"), newPassphrase);
$("new-phrase").addEventListener("click", () => $("phrase").type === "password" && $("show-phrase").click());
const isReceiptLost = () => !receiptSaved && !$("keep-receipt").checked;
$("again").addEventListener("click", () => {
  if (isReceiptLost() && !confirm(t("leave"))) return;
  receiptSaved = true;
  for (const id of ["link", "receipt-link"]) $(id).value = "";
  showSection("write");
  $("text").focus();
});
toggleOnClick($("show-phrase"), $("phrase"));
copyOnClick($("copy-receipt"), () => $("receipt-link").value);
$("receipt-link").addEventListener("focus", ({ target }) => target.select());
for (const [id, event] of [["copy-receipt", "click"], ["receipt-link", "copy"], ["to-receipt", "click"]]) {
  $(id).addEventListener(event, () => (receiptSaved = true));
}
$("keep-receipt").addEventListener("change", ({ target }) => {
  target.checked = setKept(receipt, target.checked);
});
addEventListener("beforeunload", (event) => {
  if (!isReceiptLost()) return;
  event.preventDefault();
  // Older browsers ignore preventDefault here. All show a text of their own.
  event.returnValue = t("leave");
});
if (!canEncrypt) {
  hideEncryptionClaims();
  // The form is already on the screen: hide it for a frame, so that it does not jump when the warning appears above it.
  $("write").hidden = true;
  $("plain").hidden = false;
  requestAnimationFrame(() => setTimeout(() => ($("write").hidden = false)));
}
showKindFields();
showForUser();
if (canAttach) onFiles(attach);
else $("attach")?.setAttribute("hidden", "");
startView(async () => {
  if (canEncrypt) await testEncryption();
  if (canAttach && loadUnfinished().length) {
    // As above. Without a connection, they stay kept.
    $("write").hidden = true;
    await loadAttachments().then(() => attachments.restore(), () => {});
    $("write").hidden = false;
  }
  $("create").disabled = false;
});

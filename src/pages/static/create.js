// The view that shares: encrypts a text and shows its link.

import { ConnectionLost, ROOT, call, failureKey } from "./api.js";
import { utf8 } from "./bytes.js";
import { canEncrypt, deriveKeys, newFragmentKey, sealText, testEncryption, writeFragment } from "./envelope.js";
import { generate } from "./lean-qr.js";
import { $, copyOnClick, formatTime, hideEncryptionClaims, runBusy, showSection, startView, t, toggleOnClick } from "./page.js";
import { newPassphrase, newPassword } from "./random.js";

// Bytes. Encrypted and base64-encoded, a longer text exceeds the server's limit of 1 MiB.
const MAX_TEXT_BYTES = 780000;
const form = $("form");
const isMessage = () => form.elements.kind.value === "message";

function showProblem(key, values, field) {
  $("problem").textContent = key ? t(key, values) : "";
  for (const id of ["text", "opens"]) $(id).setAttribute("aria-invalid", String(id === field?.id));
  field?.focus();
}

function insertText(text) {
  const { selectionStart, selectionEnd } = $("text");
  $("text").setRangeText(text, selectionStart, selectionEnd, "end");
}

/** Return the text and password to send, and the key of the link; the key is null if the server is to encrypt. */
async function prepareText(text, phrase) {
  if (!canEncrypt) return { text, phrase, fragmentKey: null };
  const fragmentKey = newFragmentKey();
  const keys = await deriveKeys(fragmentKey, phrase);
  return { text: await sealText(text, keys), phrase: keys.verifier, fragmentKey };
}

async function send() {
  const phrase = isMessage() ? "" : $("phrase").value;
  const sealed = await prepareText($("text").value, phrase);
  const ttl = $("ttl").value ? { ttl: { seconds: Number($("ttl").value) } } : {};
  const body = isMessage()
    ? { message: sealed.text, ...ttl }
    : { secret: sealed.text, max_opens: Number($("opens").value), ...ttl, ...(sealed.phrase ? { phrase: sealed.phrase } : {}) };
  const result = await call("POST", isMessage() ? "" : "generate", body);
  if (!result.ok) {
    showProblem(`create_${failureKey(result)}`, { detail: result.answer.detail });
    return;
  }
  await showResult(result.answer, sealed.fragmentKey, phrase);
}

async function showResult({ url, receipt_key: receiptKey, expires_at: expiresAt }, fragmentKey, phrase) {
  // The server's own URL may differ from the one in the address bar.
  const whole = new URL(url, ROOT).href;
  const [, base, key] = whole.match(/^(.*\/)(?:secrets|message)\/([^/]+)$/);
  const link = fragmentKey ? `${base}${isMessage() ? "m" : "s"}#${await writeFragment(key, fragmentKey)}` : whole;
  $("link").value = link;
  $("receipt-link").value = `${base}r#${receiptKey}`;
  $("to-receipt").href = $("receipt-link").value;
  $("result-until").textContent = t(isMessage() ? "created_message" : "created_secret", { time: formatTime(expiresAt) });
  $("result-phrase").hidden = !phrase;
  $("result-plain").hidden = Boolean(fragmentKey);
  // White pixels, not a white background: forced colours and dark mode repaint a background.
  generate(link).toCanvas($("qr"), { off: [255, 255, 255, 255] });
  form.reset();
  if ($("phrase").type === "text") $("show-phrase").click();
  showKindFields();
  showSection("result");
}

function showKindFields() {
  $("secret-only").hidden = isMessage();
}

form.addEventListener("change", showKindFields);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const opens = Number($("opens").value);
  if (!$("text").value) return showProblem("no_text", {}, $("text"));
  if (utf8($("text").value).length > MAX_TEXT_BYTES) return showProblem("create_too_large", {}, $("text"));
  if (!isMessage() && !(Number.isInteger(opens) && opens >= 1 && opens <= 100)) return showProblem("views_invalid", {}, $("opens"));
  if (!canEncrypt && !$("server-side").checked) return showProblem("insecure_refused", {}, $("server-side"));
  showProblem();
  try {
    await runBusy($("create"), send);
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    showProblem("create_lost");
  }
});
$("generate").addEventListener("click", () => insertText($("generated").value === "password" ? newPassword() : newPassphrase()));
$("new-phrase").addEventListener("click", () => {
  $("phrase").value = newPassphrase();
  if ($("phrase").type === "password") $("show-phrase").click();
});
$("again").addEventListener("click", () => {
  for (const id of ["link", "receipt-link"]) $(id).value = "";
  showSection("write");
  $("text").focus();
});
toggleOnClick($("show-phrase"), $("phrase"));
copyOnClick($("copy-link"), () => $("link").value);
copyOnClick($("copy-receipt"), () => $("receipt-link").value);
for (const id of ["link", "receipt-link"]) $(id).addEventListener("focus", (event) => event.target.select());
$("plain").hidden = canEncrypt;
if (!canEncrypt) hideEncryptionClaims();
showKindFields();
startView(async () => {
  if (canEncrypt) await testEncryption();
  form.classList.remove("unready");
});

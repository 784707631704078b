// Writing a text, encrypting it here, and showing its link.

import { Lost, ROOT, call, failure } from "./api.js";
import { utf8 } from "./bytes.js";
import { canEncrypt, deriveKeys, newFragmentKey, sealText, writeFragment } from "./envelope.js";
import { generate } from "./lean-qr.js";
import { $, copies, disclaim, moment, reveals, show, t, working } from "./page.js";
import { newPassphrase, newPassword } from "./random.js";

// Encrypted and encoded, more than this is over the 1 MiB that the server takes.
const LARGEST = 780000;
const form = $("form");
const isMessage = () => form.elements.kind.value === "message";

function say(key, values, field) {
  $("problem").textContent = key ? t(key, values) : "";
  for (const one of ["text", "opens"]) $(one).setAttribute("aria-invalid", String(one === field?.id));
  field?.focus();
}

function insert(text) {
  const { selectionStart, selectionEnd } = $("text");
  $("text").setRangeText(text, selectionStart, selectionEnd, "end");
}

/** Return what is sent, and the key of the link; null for the key where the server is to encrypt alone. */
async function prepare(text, phrase) {
  if (!canEncrypt) return { text, phrase, fragmentKey: null };
  const fragmentKey = newFragmentKey();
  const keys = await deriveKeys(fragmentKey, phrase);
  return { text: await sealText(text, keys), phrase: keys.verifier, fragmentKey };
}

async function send() {
  const phrase = isMessage() ? "" : $("phrase").value;
  const sealed = await prepare($("text").value, phrase);
  const ttl = $("ttl").value ? { ttl: { seconds: Number($("ttl").value) } } : {};
  const body = isMessage()
    ? { message: sealed.text, ...ttl }
    : { secret: sealed.text, max_opens: Number($("opens").value), ...ttl, ...(sealed.phrase ? { phrase: sealed.phrase } : {}) };
  const result = await call("POST", isMessage() ? "" : "generate", body);
  if (!result.ok) {
    say(`create_${failure(result)}`, { detail: result.answer.detail });
    return;
  }
  await showResult(result.answer, sealed.fragmentKey, phrase);
}

async function showResult({ url, receipt_key: receiptKey, expires_at: expiresAt }, fragmentKey, phrase) {
  // The server may know a better name for itself than the one that it was called by here.
  const whole = new URL(url, ROOT).href;
  const [, base, key] = whole.match(/^(.*\/)(?:secrets|message)\/([^/]+)$/);
  const link = fragmentKey ? `${base}${isMessage() ? "m" : "s"}#${await writeFragment(key, fragmentKey)}` : whole;
  $("link").value = link;
  $("receipt-link").value = `${base}r#${receiptKey}`;
  $("to-receipt").href = $("receipt-link").value;
  $("result-until").textContent = t(isMessage() ? "created_message" : "created_secret", { time: moment(expiresAt) });
  $("result-phrase").hidden = !phrase;
  $("result-plain").hidden = Boolean(fragmentKey);
  generate(link).toCanvas($("qr"));
  form.reset();
  if ($("phrase").type === "text") $("show-phrase").click();
  follow();
  show("result");
}

function follow() {
  $("secret-only").hidden = isMessage();
}

form.addEventListener("change", follow);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const opens = Number($("opens").value);
  if (!$("text").value) return say("no_text", {}, $("text"));
  if (utf8($("text").value).length > LARGEST) return say("create_too_large", {}, $("text"));
  if (!isMessage() && !(Number.isInteger(opens) && opens >= 1 && opens <= 100)) return say("bad_opens", {}, $("opens"));
  if (!canEncrypt && !$("server-side").checked) return say("plain_refused", {}, $("server-side"));
  say();
  try {
    await working($("create"), send);
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    say("create_lost");
  }
});
$("generate").addEventListener("click", () => insert($("generated").value === "password" ? newPassword() : newPassphrase()));
$("new-phrase").addEventListener("click", () => {
  $("phrase").value = newPassphrase();
  if ($("phrase").type === "password") $("show-phrase").click();
});
$("again").addEventListener("click", () => {
  for (const id of ["link", "receipt-link"]) $(id).value = "";
  show("write");
  $("text").focus();
});
reveals($("show-phrase"), $("phrase"));
copies($("copy-link"), () => $("link").value);
copies($("copy-receipt"), () => $("receipt-link").value);
for (const id of ["link", "receipt-link"]) $(id).addEventListener("focus", (event) => event.target.select());
$("plain").hidden = canEncrypt;
if (!canEncrypt) disclaim();
follow();
form.classList.remove("unready");

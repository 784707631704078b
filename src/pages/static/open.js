// Looking what waits under a link, and opening it when its reader says so.

import { Lost, call, failure } from "./api.js";
import { NotOpened, canEncrypt, deriveKeys, openText, readFragment } from "./envelope.js";
import { $, at, copies, disclaim, moment, notice, reveals, show, t, working } from "./page.js";

const isMessage = document.body.dataset.view === "message";
const isOfTheApi = location.pathname.includes("/secrets/");
let link;
let text = "";

/** Return the keys of this page's address; null where they are not whole. */
async function readLink() {
  const [, key] = location.pathname.match(/\/secrets\/([A-Za-z0-9_-]{43})$/) ?? [];
  return key ? { linkKey: key, fragmentKey: null } : readFragment(location.hash.slice(1));
}

async function begin() {
  show("looking");
  const opened = history.state?.openedAt;
  if (opened) return notice("opened_here", { time: moment(opened) });
  if (!canEncrypt && !isOfTheApi) return notice("no_crypto");
  link = await readLink();
  if (!link) return notice("broken");
  return isMessage ? read() : look();
}

/** Run a request; show what it means where there is no answer, or one that says no. */
async function ask(method, path, body, retry, lost) {
  try {
    const result = await call(method, path, body);
    if (!result.ok && !["incorrect_phrase", "phrase_required"].includes(result.code)) {
      tell(result, retry);
      return null;
    }
    return result;
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    notice(lost, {}, retry);
    return null;
  }
}

function tell(result, retry) {
  const failed = failure(result);
  if (failed !== "gone") return notice(failed, { detail: result.answer.detail }, retry);
  const { state, opened_at: openedAt } = result.answer;
  if (isMessage) return notice("gone_message");
  if (state === "opened") return notice("opened", { time: moment(openedAt) });
  return notice({ burned: "burned", locked: "locked" }[state] ?? "gone");
}

async function look() {
  const result = await ask("GET", `secrets/${link.linkKey}`, undefined, begin, "offline");
  if (!result) return;
  const { phrase_required: hasPhrase, opens_left: left, expires_at: expiresAt } = result.answer;
  $("waiting-until").textContent = t("waiting_until", { time: moment(expiresAt) });
  $("waiting-opens").textContent = t("waiting_opens", { n: left });
  $("phrase-field").hidden = !hasPhrase;
  $("problem").textContent = "";
  at(expiresAt, () => $("waiting").hidden || notice("expired", { time: moment(expiresAt) }));
  show("waiting");
}

async function open() {
  const hasPhrase = !$("phrase-field").hidden;
  const phrase = hasPhrase ? $("phrase").value : "";
  if (hasPhrase && !phrase) return wrong("no_phrase");
  $("problem").textContent = "";
  const keys = link.fragmentKey && (await deriveKeys(link.fragmentKey, phrase));
  const sent = keys ? keys.verifier : phrase;
  const result = await ask("POST", `secrets/${link.linkKey}`, sent ? { phrase: sent } : {}, begin, "lost");
  if (!result) return;
  if (result.code === "phrase_required") return look();
  if (result.code === "incorrect_phrase") {
    const left = result.answer.attempts_left;
    return left ? wrong("wrong_phrase", { n: left }) : notice("locked");
  }
  const left = result.answer.opens_left;
  if (!left) {
    // Neither the way back nor another look at this page is to ask for it again, and the key need not stay here.
    history.replaceState({ openedAt: new Date().toISOString() }, "", link.fragmentKey ? location.pathname : undefined);
  }
  await showText(result.answer.secret, keys, left ? t("shown_left", { n: left }) : t("shown_last"));
}

async function read() {
  const result = await ask("GET", `message/${link.linkKey}`, undefined, begin, "offline");
  if (!result) return;
  const time = moment(result.answer.expires_at);
  await showText(result.answer.message, await deriveKeys(link.fragmentKey), t("message_until", { time }));
  at(result.answer.expires_at, () => {
    forget();
    notice("expired_message", { time });
  });
}

async function showText(sealed, keys, words) {
  try {
    text = keys ? await openText(sealed, keys) : sealed;
  } catch (error) {
    if (!(error instanceof NotOpened)) throw error;
    return notice("unreadable");
  }
  $("phrase").value = "";
  $("shown-left").textContent = words;
  display(true);
  show("shown");
}

function display(visible) {
  $("text").textContent = visible ? text : t("hidden");
  $("hide").textContent = t(visible ? "hide" : "show");
  $("hide").setAttribute("aria-pressed", String(!visible));
}

function wrong(key, values) {
  $("problem").textContent = t(key, values);
  $("phrase").focus();
  $("phrase").select();
}

function forget() {
  text = "";
  $("text").textContent = "";
  $("phrase").value = "";
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await working($("open"), open);
});
$("hide").addEventListener("click", () => display($("hide").getAttribute("aria-pressed") === "true"));
reveals($("show-phrase"), $("phrase"));
copies($("copy"), () => text);
addEventListener("pagehide", forget);
addEventListener("pageshow", (event) => event.persisted && location.reload());
addEventListener("hashchange", () => location.reload());
if (isOfTheApi) disclaim();
begin();

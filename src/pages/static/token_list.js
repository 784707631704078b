// The API tokens of the account: creating and deleting them.

import { ConnectionLost } from "./api.js";
import { ask } from "./confirmation.js";
import { showItems } from "./items.js";
import { $, copyOnClick, formatTime, runBusy, t } from "./page.js";
import { explain } from "./rejections.js";
import { call } from "./session.js";

// The feature that each scope is for.
const FEATURES = { messages: "messages", posts: "posts", gather: "gatherer", echo: "echo" };

const scopes = () => [...$("scopes").querySelectorAll("input")];

/** Show the API tokens, and the scopes of the features that the service has. */
export async function startTokens({ features }) {
  for (const { value, labels } of scopes()) labels[0].hidden = Boolean(FEATURES[value] && !features.includes(FEATURES[value]));
  await show();
}

async function show() {
  const { ok, body } = await call("GET", "tokens");
  if (!ok) throw new ConnectionLost();
  showItems($("tokens"), body.tokens, (one) => ({ title: one.name, text: describe(one), actions: [{ label: t("delete"), isDangerous: true, act: () => remove(one) }] }));
}

function describe({ scopes, expires_at: expires, last_used_at: used }) {
  return [
    scopes.map((scope) => t(`scope_${scope}`)).join(", "),
    expires ? t("expires_on", { time: formatTime(expires) }) : t("never_expires"),
    used ? t("used", { time: formatTime(used) }) : t("unused"),
  ].join(" · ");
}

async function remove({ id, name }) {
  const question = { title: t("delete_token", { name }), text: t("delete_token_text"), label: t("delete"), isDangerous: true };
  const done = await ask(question, async () => {
    const result = await call("DELETE", `tokens/${id}`);
    // It has been deleted meanwhile.
    return result.status === 404 ? { ok: true } : result;
  });
  if (done) await show();
}

/** Create a token and show it; return the field with a problem and its text. */
async function create() {
  const name = $("token-name").value.trim();
  const chosen = scopes().filter(({ checked }) => checked);
  if (!name) return ["token-name", t("name_missing")];
  if (!chosen.length) return ["scope-secrets", t("scope_missing")];
  const days = Number($("token-expiry").value);
  const result = await call("POST", "tokens", { name, scopes: chosen.map(({ value }) => value), ...(days ? { expires_in_days: days } : {}) });
  if (!result.ok) return ["token-name", explain(result, result.body)];
  $("token-form").reset();
  await show();
  $("token").value = result.body.token;
  $("token-made").hidden = false;
  $("token-made").focus();
}

function hideToken() {
  $("token").value = "";
  $("token-made").hidden = true;
}

$("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  let problem;
  hideToken();
  $("token-problem").textContent = "";
  try {
    await runBusy($("create-token"), async () => {
      problem = await create();
    });
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    problem = ["token-name", t("no_response")];
  }
  if (!problem) return;
  $("token-problem").textContent = problem[1];
  $(problem[0]).focus();
});
copyOnClick($("copy-token"), () => $("token").value);
$("token").addEventListener("focus", ({ target }) => target.select());
$("hide-token").addEventListener("click", () => {
  hideToken();
  $("token-name").focus();
});

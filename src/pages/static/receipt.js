// What has become of a secret or a message, for the one who sent it.

import { Lost, call, failure } from "./api.js";
import { $, moment, notice, show, t } from "./page.js";

const PAUSE = 5000;
const FINAL = ["opened", "burned", "locked", "expired"];
const key = location.hash.slice(1);
let timer;

function fill(id, value) {
  $(id).textContent = value ?? "";
  $(`${id}-row`).hidden = value == null;
}

function display(receipt) {
  const words = t(`state_${receipt.state}`);
  // Said once, and not with every look.
  if ($("state").textContent !== words) $("state").textContent = words;
  fill("created", moment(receipt.created_at));
  fill("expires", moment(receipt.expires_at));
  fill("opened", receipt.opened_at && moment(receipt.opened_at));
  fill("left", receipt.state === "waiting" ? receipt.opens_left : null);
  fill("failed", receipt.failed_attempts || null);
  $("burning").hidden = receipt.state !== "waiting";
  $("live").hidden = receipt.state !== "waiting";
  if ($("receipt").hidden) show("receipt");
}

async function look() {
  clearTimeout(timer);
  let state;
  try {
    const result = await call("GET", `receipts/${key}`);
    if (!result.ok) {
      const failed = failure(result);
      if (failed !== "busy" || $("receipt").hidden) return notice(failed === "gone" ? "no_receipt" : failed, { detail: result.answer.detail }, look);
    } else {
      state = result.answer.state;
      display(result.answer);
    }
    $("stale").hidden = result.ok;
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    if ($("receipt").hidden) return notice("offline", {}, look);
    $("stale").hidden = false;
  }
  // Nobody looks at a page that is not in front.
  if (!FINAL.includes(state) && !document.hidden) timer = setTimeout(look, PAUSE);
}

function confirming(asked) {
  $("burn").hidden = asked;
  $("confirm").hidden = !asked;
  $(asked ? "burn-now" : "burn").focus();
}

$("burn").addEventListener("click", () => confirming(true));
$("keep").addEventListener("click", () => confirming(false));
$("burn-now").addEventListener("click", async () => {
  $("burn-now").disabled = true;
  try {
    await call("DELETE", `receipts/${key}`);
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
  }
  $("burn-now").disabled = false;
  confirming(false);
  // Whatever came of it: the receipt says so.
  await look();
  $("receipt").focus();
});
document.addEventListener("visibilitychange", () => document.hidden || $("receipt").hidden || look());
addEventListener("hashchange", () => location.reload());
if (/^[A-Za-z0-9_-]{60}$/.test(key)) look();
else notice("broken_receipt");

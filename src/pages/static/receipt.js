// The view of a receipt: shows its sender the state of a secret or message, and deletes it.

import { ConnectionLost, call, failureKey } from "./api.js";
import { receiptKeyOfUrl } from "./links.js";
import { $, formatExpiry, formatTime, showNotice, showSection, startView, t } from "./page.js";

const POLL_INTERVAL_MS = 5000;
const FINAL = ["opened", "burned", "locked", "expired"];
const key = receiptKeyOfUrl();
let timer;

function setRow(id, value) {
  $(id).textContent = value ?? "";
  $(`${id}-row`).hidden = value == null;
}

function display(receipt) {
  const state = t(`state_${receipt.state}`);
  // A screen reader announces each assignment: assign only changes.
  if ($("state").textContent !== state) $("state").textContent = state;
  setRow("created", formatTime(receipt.created_at));
  setRow("expires", (receipt.state === "waiting" ? formatExpiry : formatTime)(receipt.expires_at));
  setRow("opened", receipt.opened_at && formatTime(receipt.opened_at));
  setRow("left", receipt.state === "waiting" ? receipt.opens_left : null);
  setRow("failed", receipt.failed_attempts || null);
  $("burning").hidden = receipt.state !== "waiting";
  $("live").hidden = receipt.state !== "waiting";
  if ($("receipt").hidden) showSection("receipt");
}

async function refresh() {
  clearTimeout(timer);
  let state;
  try {
    const result = await call("GET", `receipts/${key}`);
    if (!result.ok) {
      const failed = failureKey(result);
      if (failed !== "busy" || $("receipt").hidden) return showNotice(failed === "gone" ? "no_receipt" : failed, { detail: result.answer.detail }, refresh);
    } else {
      state = result.answer.state;
      display(result.answer);
    }
    $("stale").hidden = result.ok;
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    if ($("receipt").hidden) return showNotice("offline", {}, refresh);
    $("stale").hidden = false;
  }
  // Poll only while the page is visible.
  if (!FINAL.includes(state) && !document.hidden) timer = setTimeout(refresh, POLL_INTERVAL_MS);
}

function setConfirming(asked) {
  $("burn").hidden = asked;
  $("confirm").hidden = !asked;
  $(asked ? "burn-now" : "burn").focus();
}

$("burn").addEventListener("click", () => setConfirming(true));
$("keep").addEventListener("click", () => setConfirming(false));
$("burn-now").addEventListener("click", async () => {
  $("burn-now").disabled = true;
  try {
    await call("DELETE", `receipts/${key}`);
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
  }
  $("burn-now").disabled = false;
  setConfirming(false);
  // The receipt shows the outcome, also after a failed request.
  await refresh();
  $("receipt").focus();
});
document.addEventListener("visibilitychange", () => document.hidden || $("receipt").hidden || refresh());
addEventListener("hashchange", () => location.reload());
startView(() => (key ? refresh() : showNotice("incomplete_receipt")));

// The view of a receipt: shows its sender the state of a secret or message, and deletes it. Without a key in its URL, it
// lists the receipts that this browser keeps.

import { ConnectionLost, ROOT, call, failureKey } from "./api.js";
import { describeFiles } from "./describe_files.js";
import { loadKept, setKept } from "./kept.js";
import { receiptKeyOfUrl } from "./links.js";
import { $, drawIcon, formatExpiry, formatTime, showNotice, showSection, startView, t } from "./page.js";
import "./signed_in.js";

const POLL_INTERVAL_MS = 5000;
const FINAL = ["opened", "burned", "locked", "expired"];
const key = receiptKeyOfUrl();
let timer;

function setRow(id, value) {
  $(id).textContent = value ?? "";
  $(`${id}-row`).hidden = value == null;
}

function display(receipt, files) {
  const word = t(`state_${receipt.state}`);
  const [heading, remark] = $("state").querySelectorAll("h2, p");
  // A screen reader announces each assignment: assign only changes.
  if (heading.textContent !== word) {
    heading.textContent = word;
    remark.textContent = t(`state_${receipt.state}_text`);
    drawIcon($("state"), receipt.state);
  }
  setRow("files", files);
  setRow("created", formatTime(receipt.created_at));
  setRow("expires", (receipt.state === "waiting" ? formatExpiry : formatTime)(receipt.expires_at));
  setRow("opened", receipt.opened_at && formatTime(receipt.opened_at));
  setRow("left", receipt.state === "waiting" ? receipt.opens_left : null);
  setRow("received", receipt.received_at && formatTime(receipt.received_at));
  setRow("failed", receipt.failed_attempts || null);
  setRow("late", receipt.late_attempts ? t("late_value", { count: receipt.late_attempts, time: formatTime(receipt.last_late_at) }) : null);
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
      display(result.answer, await describeFiles(result.answer));
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

/** Return the state of a kept receipt, its word, and the item's files. */
async function stateOf({ key }) {
  try {
    const { ok, status, answer } = await call("GET", `receipts/${key}`);
    if (ok) return [answer.state, t(`state_${answer.state}`), await describeFiles(answer)];
    return status === 404 ? ["gone", t("no_receipt_title")] : ["alert", t("busy_title")];
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    return ["offline", t("offline_title")];
  }
}

function addKept(receipt) {
  const item = $("kept-item").content.cloneNode(true).firstElementChild;
  const [link, created, remove] = item.querySelectorAll("a, p, button");
  link.href = `${ROOT}r#${receipt.key}`;
  link.textContent = t("working");
  created.textContent = formatTime(receipt.created);
  remove.setAttribute("aria-label", t("remove_from", { time: created.textContent }));
  remove.addEventListener("click", () => {
    setKept(receipt, false);
    item.remove();
    ($("kept-list").querySelector("button") ?? $("receipts")).focus();
  });
  $("kept-list").append(item);
  return async () => {
    const [state, word, files] = await stateOf(receipt);
    link.textContent = word;
    if (files) created.textContent += ` · ${files}`;
    drawIcon(item, state);
  };
}

async function listKept() {
  document.title = document.title.replace(/^.*? · /, `${$("receipts").querySelector("h1").textContent} · `);
  const updates = loadKept().map(addKept);
  showSection("receipts");
  // One at a time: the server limits the rate.
  for (const update of updates) await update();
}

function start() {
  if (key) return refresh();
  return location.hash || location.search ? showNotice("incomplete_receipt") : listKept();
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
startView(start);

// Receipts that the user keeps in this browser: their keys and times, never a link or a text.

import { ROOT } from "./api.js";
import { $, formatTime, t } from "./page.js";

// Services under other paths of this origin share the storage.
const ITEM = `sealpost-receipts${ROOT.pathname}`;
// The server deletes a receipt 7 days after its text expires.
const KEPT_MS = 7 * 86400000;

function load() {
  try {
    return JSON.parse(localStorage.getItem(ITEM)).filter(({ expires }) => Date.parse(expires) + KEPT_MS > Date.now());
  } catch {
    // Nothing is kept, or storage is blocked.
    return [];
  }
}

/** Keep a receipt, or forget it; return whether the browser keeps it. */
export function setKept(receipt, kept) {
  const receipts = load().filter(({ key }) => key !== receipt.key);
  if (kept) receipts.unshift(receipt);
  try {
    if (receipts.length) localStorage.setItem(ITEM, JSON.stringify(receipts));
    else localStorage.removeItem(ITEM);
  } catch {
    return false;
  }
  listKept();
  return kept;
}

function listItem(receipt) {
  const [item, link, remove] = ["li", "a", "button"].map((name) => document.createElement(name));
  item.className = "row";
  link.href = `${ROOT}r#${receipt.key}`;
  link.translate = false;
  link.className = "notranslate";
  link.textContent = formatTime(receipt.created);
  remove.textContent = t("remove");
  remove.addEventListener("click", () => {
    setKept(receipt, false);
    ($("kept-list").querySelector("button") ?? $("text")).focus();
  });
  item.append(link, remove);
  return item;
}

/** List the kept receipts, newest first. */
export function listKept() {
  const receipts = load();
  $("kept-list").replaceChildren(...receipts.map(listItem));
  $("kept").hidden = !receipts.length;
}

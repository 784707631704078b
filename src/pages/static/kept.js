// Receipts that the user keeps in this browser: their keys and times, never a link or a text.

import { ROOT } from "./api.js";

// Services under other paths of this origin share the storage.
const ITEM = `sealpost-receipts${ROOT.pathname}`;
// The server deletes a receipt 7 days after its text expires.
const KEPT_MS = 7 * 86400000;

/** Return the kept receipts, newest first: `key`, and the times `created` and `expires`. */
export function loadKept() {
  try {
    return JSON.parse(localStorage.getItem(ITEM)).filter(({ expires }) => Date.parse(expires) + KEPT_MS > Date.now());
  } catch {
    // Nothing is kept, or storage is blocked.
    return [];
  }
}

/** Keep a receipt, or forget it; return whether the browser keeps it. */
export function setKept(receipt, kept) {
  const receipts = loadKept().filter(({ key }) => key !== receipt.key);
  if (kept) receipts.unshift(receipt);
  try {
    if (receipts.length) localStorage.setItem(ITEM, JSON.stringify(receipts));
    else localStorage.removeItem(ITEM);
  } catch {
    return false;
  }
  return kept;
}

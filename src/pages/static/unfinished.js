// Unfinished uploads, kept in this tab so that they can continue after a reload.

import { ROOT } from "./api.js";
import { timeUntil } from "./clock.js";

// Services under other paths of this origin share the storage.
const ITEM = `uploads:${ROOT.pathname}`;

/**
 * Return the uploads that the server still has: the key of each, `upload`, when it `expires`, the key of its content,
 * `key`, its file's `name`, `type`, `size` and `modified`, and whether all has arrived, `done`.
 */
export function loadUnfinished() {
  try {
    return JSON.parse(sessionStorage.getItem(ITEM)).filter(({ expires }) => timeUntil(expires) > 0);
  } catch {
    // There is none, or storage is blocked.
    return [];
  }
}

function save(uploads) {
  try {
    if (uploads.length) sessionStorage.setItem(ITEM, JSON.stringify(uploads));
    else sessionStorage.removeItem(ITEM);
  } catch {
    // Storage is blocked: an upload survives a lost connection, but not a reload.
  }
}

const others = (key) => loadUnfinished().filter(({ upload }) => upload !== key);

/** Keep an upload, or replace what is kept of it. */
export const keepUnfinished = (kept) => save([...others(kept.upload), kept]);

export const forgetUnfinished = (key) => save(others(key));

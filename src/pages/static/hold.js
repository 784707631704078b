// The held opening of a secret: with the reader's key, this tab gets the text again until the server's hold ends.

import { call } from "./api.js";
import { writeBase64 } from "./bytes.js";
import { now, timeUntil } from "./clock.js";

const KEY_BYTES = 32;
// Shorter moves of the end are not shown.
const STEP_MS = 10000;
let name;
// The reader's key, whether the secret has a password, and the end of the hold, once the secret has been opened.
let hold = null;

function save() {
  try {
    if (hold) sessionStorage.setItem(name, JSON.stringify(hold));
    else sessionStorage.removeItem(name);
  } catch {
    // Storage is blocked: the text survives a lost connection, but not a reload.
  }
}

/** Load the hold that an earlier load of this page left for a secret; return it, or null. */
export function loadHold(linkKey) {
  name = `hold:${linkKey}`;
  try {
    hold = JSON.parse(sessionStorage.getItem(name)) ?? hold;
  } catch {
    // As above.
  }
  return hold;
}

/** Return the reader's key for an opening. It is stored before it is sent. */
export function readerKey(hasPassword) {
  hold ??= { reader: writeBase64(crypto.getRandomValues(new Uint8Array(KEY_BYTES))), hasPassword };
  save();
  return hold.reader;
}

/** Store the end of the hold, if the server holds openings; return whether it does. */
export function keepUntil(until) {
  hold = until ? { length: timeUntil(until), ...hold, until } : null;
  save();
  return Boolean(hold);
}

/** Move the end of the hold while a file is downloaded; return whether it has moved. */
export function prolongHold() {
  if (!hold?.until) return false;
  // The server moves it as well, in steps of at most a quarter of the hold's length.
  const until = new Date(now().getTime() + 0.75 * hold.length);
  if (until - new Date(hold.until) < STEP_MS) return false;
  hold.until = until.toISOString();
  save();
  return true;
}

export const isHeld = () => Boolean(hold?.until) && timeUntil(hold.until) > 0;

export const heldUntil = () => hold?.until;

/** Forget the hold. */
export function dropHold() {
  hold = null;
  save();
}

/** Let the server delete the text at once. Throws `ConnectionLost`. */
export const confirmReceived = (path) => call("POST", `${path}/received`, { reader: hold.reader });

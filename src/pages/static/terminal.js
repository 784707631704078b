// The request of a terminal on this computer to be signed in. It survives the way to an identity provider and back.

import { ROOT } from "./api.js";

// The terminal waits no longer.
const LIFE_MS = 600000;
const ITEM = `sealpost-terminal${ROOT.pathname}`;

/** Return the terminal's `port`, `challenge` and `state`; null if none waits. Throws an `Error` for an invalid request. */
export function readTerminal() {
  const query = new URLSearchParams(location.search);
  if (!query.has("terminal")) return loadTerminal();
  const [port, challenge, state] = ["terminal", "challenge", "state"].map((name) => query.get(name) ?? "");
  // Ports below 1024 belong to services of the system.
  const isValid = /^[1-9]\d{3,4}$/.test(port) && port >= 1024 && port <= 65535 && /^[\w-]{43}$/.test(challenge);
  if (!isValid || !/^[\w.~-]{1,256}$/.test(state)) throw new Error("terminal");
  const terminal = { port: Number(port), challenge, state, until: Date.now() + LIFE_MS };
  try {
    sessionStorage.setItem(ITEM, JSON.stringify(terminal));
  } catch {
    // Storage is blocked: it lasts as long as this page.
  }
  return terminal;
}

function loadTerminal() {
  try {
    const terminal = JSON.parse(sessionStorage.getItem(ITEM));
    return terminal?.until > Date.now() ? terminal : null;
  } catch {
    return null;
  }
}

/** Forget the terminal: it has been answered. */
export function forgetTerminal() {
  try {
    sessionStorage.removeItem(ITEM);
  } catch {
    // Storage is blocked, so nothing was kept.
  }
}

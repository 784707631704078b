// Whether this browser is signed in, and by which name. Loads the session and its menu only where there may be one.

import { ROOT, call } from "./api.js";
import { $ } from "./page.js";

// Services under other paths of this origin share the storage.
const NAME = `sealpost-signed-in${ROOT.pathname}`;
const RETURN = `sealpost-return${ROOT.pathname}`;
// Where storage is blocked, a session lasts until its page is left.
let name = null;
try {
  // Without a menu, the service has no accounts, although it may have had some when the name was stored.
  if ($("menu")) name = localStorage.getItem(NAME);
} catch {}

/** Return the name of the user who signed in with this browser; null if there is none. The session may have ended. */
export const signedInName = () => name;

/** Remember who is signed in, for all tabs; null after signing out. */
export function rememberName(value) {
  try {
    if (value === null) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, value);
  } catch {}
  change(value);
}

/** Use another user's name; views get the event `sessionchange`. */
function change(value) {
  if (name === value) return;
  name = value;
  draw();
  dispatchEvent(new Event("sessionchange"));
}

function draw() {
  $("sign-in").hidden = name !== null;
  $("menu").hidden = name === null;
  $("menu-name").textContent = $("menu-name").title = name ?? "";
  if (name !== null) import("./menu.js").then(({ update }) => update(), () => {});
}

/** Like `call` of the API, with the access token while signed in. */
export async function callAsUser(method, path, body) {
  if (name === null) return call(method, path, body);
  const { body: answer, ...result } = await (await import("./session.js")).call(method, path, body);
  return { ...result, answer };
}

/**
 * Return the header that authenticates a request, other than one that the server has rejected; none while signed out.
 * Throws `ConnectionLost`.
 */
export async function authorization({ Authorization: rejected } = {}) {
  if (name === null) return {};
  const token = await (await import("./session.js")).accessToken(rejected?.slice("Bearer ".length));
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Remember this page, to return to it after signing in. */
export function rememberReturn() {
  try {
    sessionStorage.setItem(RETURN, location.href);
  } catch {}
}

/** Return the page of this service that was remembered, once; null if there is none. */
export function takeReturn() {
  try {
    const url = sessionStorage.getItem(RETURN);
    sessionStorage.removeItem(RETURN);
    return url?.startsWith(ROOT.href) ? url : null;
  } catch {
    return null;
  }
}

if ($("menu")) {
  $("sign-in").addEventListener("click", () => document.body.dataset.view === "signin" || rememberReturn());
  addEventListener("storage", ({ key, newValue }) => key === NAME && change(newValue));
  if (name !== null) draw();
}

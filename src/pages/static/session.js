// The session of this browser. The access token is in memory; the refresh token is in a cookie that no script can read.

import { ConnectionLost, ROOT, call as send } from "./api.js";
import { rememberName, rememberReturn, signedInName } from "./signed_in.js";

const LOCK = `sealpost-session${ROOT.pathname}`;
// A token that expires this soon is refreshed before it is used.
const MARGIN_MS = 10000;
// Only with it does the browser send, and accept, the cookie. The response survives that the page is left.
const WITH_COOKIE = { credentials: "same-origin", keepalive: true };
// The access token, and when it expires on the clock of `performance`, which nobody sets.
let access = null;
let user;
let refreshing = null;
let isPrivate = false;

/** The server rejects a request; `result` has its status, code and body. */
export class Refused extends Error {
  constructor(result) {
    super();
    this.result = result;
  }
}

function keep({ access_token: token, expires_in: seconds }) {
  access = { token, until: performance.now() + seconds * 1000 - MARGIN_MS };
}

function forget() {
  access = null;
  user = null;
  rememberName(null);
}

/** Get an access token by the cookie, one tab after the other. Throws `ConnectionLost`. */
async function refresh(isForced) {
  // Signed out in another tab, while this one waited.
  if (!isForced && signedInName() === null) return forget();
  const result = await send("POST", "refresh", { cookie: true }, WITH_COOKIE);
  if (result.ok) keep(result.answer);
  else if (result.status === 401 || result.status === 403) forget();
  else throw new ConnectionLost();
}

// Locks exist in secure contexts only. Without them, the server accepts the previous cookie for a few seconds.
const oneTabAtATime = (work) => (navigator.locks ? navigator.locks.request(LOCK, work) : work());

function refreshOnce(isForced = false) {
  refreshing ??= oneTabAtATime(() => refresh(isForced)).finally(() => (refreshing = null));
  return refreshing;
}

const isFresh = () => access !== null && performance.now() < access.until;

/** Return an access token, other than one that the server has rejected; null while signed out. Throws `ConnectionLost`. */
export async function accessToken(rejected) {
  // The session may have ended, or the token may have expired early.
  if (access && access.token === rejected) access = null;
  if (signedInName() === null && !access) return null;
  if (!isFresh()) await refreshOnce();
  return access?.token ?? null;
}

const authorized = (method, path, body, token, options = {}) =>
  send(method, path, body, { ...options, headers: token ? { Authorization: `Bearer ${token}` } : {} });

/** Send a request with the access token; return its status, code and body. Throws `ConnectionLost`. */
export async function call(method, path, body) {
  let token = await accessToken();
  let result = await authorized(method, path, body, token);
  if (result.status === 401 && token) {
    token = await accessToken(token);
    if (token) result = await authorized(method, path, body, token);
  }
  const { ok, status, code, answer } = result;
  return { ok, status, code, body: answer };
}

async function readUser() {
  const { ok, status, body } = await call("GET", "me");
  if (ok) {
    user = { username: body.username, userId: body.user_id, operator: body.operator, signIn: body.sign_in };
    rememberName(user.username);
  } else if (status === 401 || status === 403) {
    forget();
  } else {
    throw new ConnectionLost();
  }
  return user;
}

/** Return who is signed in: `username`, `userId`, `operator`, `signIn`; null while signed out. Throws `ConnectionLost`. */
export async function session() {
  if (signedInName() === null && !access) return null;
  return user ?? readUser();
}

/** Like `session`, and asks the server even if this browser remembers no user. */
export async function restoreSession() {
  if (!access) await refreshOnce(true);
  return access ? session() : null;
}

/** Like `session`; while signed out, go to the view that signs in, and come back. Reload when the user changes. */
export async function requireSession() {
  const found = await session();
  isPrivate = true;
  if (found) return found;
  rememberReturn();
  location.replace(new URL("signin", ROOT));
  return new Promise(() => {});
}

/** Begin to use the tokens of a new session; return its user. Throws `ConnectionLost`. */
export async function signedIn(tokens) {
  keep(tokens);
  user = null;
  return readUser();
}

/** Read the user again, after a change of the account. Throws `ConnectionLost`. */
export const refreshUser = () => readUser();

/** End the session. Throws `ConnectionLost` unless the server has ended it. */
export const signOut = () =>
  oneTabAtATime(async () => {
    // The cookie alone suffices.
    const { ok, status } = await authorized("POST", "logout", undefined, isFresh() ? access.token : null, WITH_COOKIE);
    if (!ok && status !== 401 && status !== 404) throw new ConnectionLost();
    forget();
  });

/** Forget the session, after the server has deleted the account. */
export function signedOut() {
  isPrivate = false;
  forget();
}

/** Yield each line of a response as JSON. Throws `Refused`, and `ConnectionLost` also if the response is incomplete. */
export async function* lines(path) {
  const token = await accessToken();
  const headers = { Accept: "application/x-ndjson, application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { headers, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" });
    if (!response.ok) {
      const body = await response.json();
      throw new Refused({ ok: false, status: response.status, code: body.code, body });
    }
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      const parts = (rest + decoder.decode(value, { stream: !done })).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
      if (done) break;
    }
    if (rest) yield JSON.parse(rest);
  } catch (error) {
    throw error instanceof Refused ? error : new ConnectionLost();
  }
}

addEventListener("sessionchange", () => {
  // Of the previous user, nothing stays on the screen or in memory.
  if (user?.username === signedInName()) return;
  access = null;
  user = undefined;
  if (isPrivate) location.reload();
});

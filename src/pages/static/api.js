// The client for the API of the server that served this page.

import { setClock } from "./clock.js";

/** Base URL of the service. */
export const ROOT = new URL("../../", import.meta.url);
const TIMEOUT_MS = 60000;

/** No response, or an incomplete one: the server may have processed the request. */
export class ConnectionLost extends Error {}

/** Send a request; return its status and JSON. `extra` are further options of `fetch`. Throws `ConnectionLost`. */
export async function call(method, path, body, extra = {}) {
  // Not AbortSignal.timeout, and outside the block: what a browser lacks must not look like a lost connection.
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), TIMEOUT_MS);
  const options = {
    method,
    body: body && JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    referrerPolicy: "no-referrer",
    signal: controller.signal,
    ...extra,
    headers: { Accept: "application/json", ...extra.headers },
  };
  try {
    const response = await fetch(new URL(path, ROOT), options);
    setClock(response.headers.get("Date"));
    const answer = response.status === 204 ? {} : await response.json();
    return { ok: response.ok, status: response.status, code: answer.code, answer };
  } catch {
    throw new ConnectionLost();
  } finally {
    clearTimeout(timer);
  }
}

/** Map an error response to the key of its texts. */
export function failureKey({ status, code }) {
  if (status === 502 || status === 504) return "lost";
  // Retrying would not help, so the detail of the response is shown.
  if (status === 507 || code === "limit_reached") return "refused";
  if (status === 429 || status >= 500) return "busy";
  return { 401: "unauthorized", 403: "unauthorized", 410: "damaged", 413: "too_large" }[status] ?? (code === "key_not_found" ? "gone" : "refused");
}

// The API of the server that this page came from.

/** The address of the service, below which everything is. */
export const ROOT = new URL("../../", import.meta.url);
const PATIENCE = 60000;

/** No answer, or not all of it: what was asked for may have been done. */
export class Lost extends Error {}

/** Send a request; return its status and JSON. Throws `Lost`. */
export async function call(method, path, body) {
  try {
    const response = await fetch(new URL(path, ROOT), {
      method,
      body: body && JSON.stringify(body),
      headers: { Accept: "application/json" },
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(PATIENCE),
    });
    const answer = response.status === 204 ? {} : await response.json();
    return { ok: response.ok, status: response.status, code: answer.code, answer };
  } catch {
    throw new Lost();
  }
}

/** Name what an answer other than a success means, as the texts of the page have it. */
export function failure({ status, code }) {
  if (status === 502 || status === 504) return "lost";
  // A moment later it would be the same, so the answer's own words are shown.
  if (status === 507 || code === "limit_reached") return "refused";
  if (status === 429 || status >= 500) return "busy";
  return { 401: "unauthorized", 403: "unauthorized", 410: "damaged", 413: "too_large" }[status] ?? (code === "key_not_found" ? "gone" : "refused");
}

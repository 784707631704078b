// Finds keys in links that other programs changed, as src/lenient_keys.py does.

import { ROOT } from "./api.js";
import { readBase64 } from "./bytes.js";
import { readFragment } from "./envelope.js";

// White space and invisible characters.
const GAP = /[\p{Cc}\p{Cf}\p{Z}]/gu;

const decodePercent = (text) =>
  text.replace(/(?:%[0-9a-f]{2})+/gi, (bytes) => {
    try {
      return decodeURIComponent(bytes);
    } catch {
      return bytes;
    }
  });
// Twice, for links that were encoded again.
const decode = (text) => decodePercent(decodePercent(text));

/** Return the first run of exactly `length` key characters, or null. */
function findKey(text, length) {
  // A gap ends a run, or else is part of a wrapped key.
  for (const gap of [" ", ""]) {
    const runs = decode(text).replace(GAP, gap).split(/[^A-Za-z0-9_-]+/);
    const found = runs.find((run) => run.length === length && readBase64(run));
    if (found) return found;
  }
  return null;
}

/** Return a fragment, recognized by its check, and its keys, or null. */
async function findFragment(text) {
  for (const [, fragment] of decode(text).replace(GAP, "").matchAll(/(?=(1[A-Za-z0-9_-]{91}))/g)) {
    const keys = await readFragment(fragment);
    if (keys) return { fragment, keys };
  }
  return null;
}

const pathAndQuery = () => location.pathname.slice(ROOT.pathname.length) + location.search;

export const linkKeyOfPath = () => findKey(pathAndQuery(), 43);

export const receiptKeyOfUrl = () => findKey(location.hash, 60) ?? findKey(pathAndQuery(), 60);

/** Return the keys in the URL of a page, and whether they were sent to the server; null if they are incomplete. */
export async function fragmentOfUrl(page) {
  const found = await findFragment(location.hash);
  if (found) return { ...found.keys, wasSent: /[?&]sent(&|$)/.test(location.search) };
  const sent = await findFragment(pathAndQuery());
  if (!sent) return null;
  // The `#` was encoded. Load the right address, so that the key is not sent again.
  location.replace(new URL(`${page}?sent#${sent.fragment}`, ROOT));
  return new Promise(() => {});
}

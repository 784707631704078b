// What is encrypted before it is sent: the keys of a link, and the envelope that only they open.
// The terminal client does the same in src/client/envelopes.py; docs/security.md has the format and its test vectors.

import { join, readBase64, utf8, writeBase64 } from "./bytes.js";

const VERSION = 1;
const KEY = 32;
const NONCE = 12;
const TAG = 16;
const CHECK = 4;
const PADDED_TO = 64;
const ITERATIONS = 600000;
const PREFIX = "sealpost-text-1.";
const EMPTY = new Uint8Array();

/** Whether this browser can encrypt here: it does so over HTTPS and on this machine alone. */
export const canEncrypt = Boolean(globalThis.isSecureContext && globalThis.crypto?.subtle);

/** What is not whole, or not of these keys. */
export class NotOpened extends Error {}

export const newFragmentKey = () => crypto.getRandomValues(new Uint8Array(KEY));

async function derive(key, label) {
  const imported = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"]);
  const parameters = { name: "HKDF", hash: "SHA-256", salt: EMPTY, info: utf8(`sealpost/v1/${label}`) };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, KEY * 8));
}

/** Return the keys of a text; `verifier` is what the server is given in place of the phrase, null without one. */
export async function deriveKeys(fragmentKey, phrase) {
  let both = fragmentKey;
  let verifier = null;
  if (phrase) {
    const salt = await derive(fragmentKey, "text-salt");
    const imported = await crypto.subtle.importKey("raw", utf8(phrase.normalize("NFC")), "PBKDF2", false, ["deriveBits"]);
    const parameters = { name: "PBKDF2", hash: "SHA-256", salt, iterations: ITERATIONS };
    both = join(fragmentKey, new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, KEY * 8)));
    verifier = writeBase64(await derive(both, "text-verifier"));
  }
  const dataKey = await crypto.subtle.importKey("raw", await derive(both, "text-key"), "AES-GCM", false, ["encrypt", "decrypt"]);
  const header = new Uint8Array(5);
  header[0] = VERSION;
  new DataView(header.buffer).setUint32(1, phrase ? ITERATIONS : 0);
  return { dataKey, verifier, header };
}

const cipher = (nonce, header) => ({
  name: "AES-GCM",
  iv: nonce,
  additionalData: join(utf8("sealpost/v1/text-envelope"), header),
});

/** Return the envelope of a text, as a text; `nonce` is given by tests alone. */
export async function sealText(text, { dataKey, header }, nonce = crypto.getRandomValues(new Uint8Array(NONCE))) {
  const content = utf8(text);
  const padded = new Uint8Array(Math.ceil((content.length + 1) / PADDED_TO) * PADDED_TO);
  padded.set(content);
  padded[content.length] = 0x80;
  const sealed = new Uint8Array(await crypto.subtle.encrypt(cipher(nonce, header), dataKey, padded));
  return PREFIX + writeBase64(join(header, nonce, sealed));
}

/** Return the text of an envelope. Throws `NotOpened`. */
export async function openText(envelope, { dataKey, header }) {
  const raw = envelope.startsWith(PREFIX) ? readBase64(envelope.slice(PREFIX.length)) : null;
  const begin = header.length + NONCE;
  if (!raw || raw.length < begin + TAG || header.some((byte, at) => byte !== raw[at])) throw new NotOpened();
  let padded;
  try {
    const nonce = raw.subarray(header.length, begin);
    padded = new Uint8Array(await crypto.subtle.decrypt(cipher(nonce, header), dataKey, raw.subarray(begin)));
    const end = padded.findLastIndex((byte) => byte !== 0);
    if (padded[end] !== 0x80) throw new NotOpened();
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(padded.subarray(0, end));
  } catch {
    throw new NotOpened();
  } finally {
    padded?.fill(0);
  }
}

async function check(both) {
  const digest = await crypto.subtle.digest("SHA-256", join(utf8("sealpost/v1/text-link"), both));
  return new Uint8Array(digest).subarray(0, CHECK);
}

/** Return a link's fragment. */
export async function writeFragment(linkKey, fragmentKey) {
  const both = join(readBase64(linkKey), fragmentKey);
  return VERSION + writeBase64(join(both, await check(both)));
}

/** Return the keys of a link's fragment; null for one that was cut off or changed on its way. */
export async function readFragment(fragment) {
  const raw = readBase64(fragment.slice(1));
  if (fragment[0] !== String(VERSION) || raw?.length !== 2 * KEY + CHECK) return null;
  const expected = await check(raw.subarray(0, 2 * KEY));
  if (expected.some((byte, at) => byte !== raw[2 * KEY + at])) return null;
  return { linkKey: writeBase64(raw.subarray(0, KEY)), fragmentKey: raw.slice(KEY, 2 * KEY) };
}

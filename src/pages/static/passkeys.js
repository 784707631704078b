// Passkeys (WebAuthn): the JSON of the server to what the browser expects, and back.

import { readBase64, writeBase64 } from "./bytes.js";

/** Whether this browser can use passkeys here: it must be a secure context. */
export const hasPasskeys = Boolean(globalThis.PublicKeyCredential && navigator.credentials);

const decodeIds = (credentials = []) => credentials.map((one) => ({ ...one, id: readBase64(one.id) }));

/** Return which text explains that the browser gave no passkey. */
export function passkeyFailure({ name }) {
  // The address of the page is an IP address, or not that of the service.
  if (name === "SecurityError") return "passkey_address";
  return name === "InvalidStateError" ? "passkey_exists" : "passkey_cancelled";
}

/** Let the user choose a passkey, and sign a challenge with it; `extra` are further options of the browser. */
export async function usePasskey(options, extra = {}) {
  const publicKey = {
    ...options,
    challenge: readBase64(options.challenge),
    allowCredentials: decodeIds(options.allowCredentials),
  };
  const { id, rawId, type, authenticatorAttachment, response } = await navigator.credentials.get({ publicKey, ...extra });
  return {
    id,
    rawId: encode(rawId),
    type,
    ...(authenticatorAttachment ? { authenticatorAttachment } : {}),
    clientExtensionResults: {},
    response: {
      clientDataJSON: encode(response.clientDataJSON),
      authenticatorData: encode(response.authenticatorData),
      signature: encode(response.signature),
      ...(response.userHandle ? { userHandle: encode(response.userHandle) } : {}),
    },
  };
}

/** Let the browser make a passkey. */
export async function makePasskey(options) {
  const publicKey = {
    ...options,
    challenge: readBase64(options.challenge),
    user: { ...options.user, id: readBase64(options.user.id) },
    excludeCredentials: decodeIds(options.excludeCredentials),
  };
  const { id, rawId, type, authenticatorAttachment, response } = await navigator.credentials.create({ publicKey });
  return {
    id,
    rawId: encode(rawId),
    type,
    ...(authenticatorAttachment ? { authenticatorAttachment } : {}),
    clientExtensionResults: {},
    response: {
      clientDataJSON: encode(response.clientDataJSON),
      attestationObject: encode(response.attestationObject),
      transports: response.getTransports?.() ?? [],
    },
  };
}

const encode = (buffer) => writeBase64(new Uint8Array(buffer));

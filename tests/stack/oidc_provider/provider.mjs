// An OpenID provider: `node provider.mjs PORT REDIRECT_URI…`. It signs everyone in, under the name that they type. Its key
// is in key.json, which it creates if it is missing. When the user `down` has signed in, it ends instead of issuing tokens.
// It prints a line when it is ready.

import { generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import Provider from "oidc-provider";

const [port, ...redirectUris] = process.argv.slice(2);
if (!existsSync("key.json")) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync("key.json", JSON.stringify({ ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig" }));
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "sealpost",
      client_secret: "a secret of/the client",
      redirect_uris: redirectUris,
      id_token_signed_response_alg: "ES256",
    },
  ],
  jwks: { keys: [JSON.parse(readFileSync("key.json", "utf8"))] },
  cookies: { keys: ["of the tests"] },
  claims: { openid: ["sub"], profile: ["preferred_username"], email: ["email", "email_verified"], groups: ["groups"] },
  pkce: { required: () => true },
  findAccount: ({ path }, id) => {
    if (path === "/token" && id === "down") process.exit();
    return {
      accountId: id,
      claims: () => ({
        sub: id,
        preferred_username: id,
        email: `${id}@example.org`,
        email_verified: true,
        groups: id.startsWith("olga") ? ["staff", "admins"] : id === "eve" ? [] : ["staff"],
      }),
    };
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));

// Why the server rejects a request about an account, in words.

import { t } from "./page.js";

const KEYS = {
  account_disabled: "disabled",
  incorrect_credentials: "incorrect",
  incorrect_password: "password_wrong",
  invalid_passkey: "passkey_refused",
  last_way_to_sign_in: "last_way",
  passkey_exists: "passkey_exists",
  passkey_refused: "passkey_refused",
  registration_closed: "not_invited",
  username_taken: "taken",
};

/** Return the text for a result with `status`, `code` and the body of the problem. */
export function explain({ status, code }, { detail }) {
  if (KEYS[code]) return t(KEYS[code]);
  if (status === 429) return t("too_often");
  return status >= 500 ? t("no_response") : t("rejected", { detail });
}

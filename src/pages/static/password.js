// Checks of a password before it is used: its length, and slips that would cost the reader an attempt.

import { $ } from "./page.js";

const SLIPS = {
  password_blank: (password) => password.trim(),
  // Phones capitalize the first letter of a field.
  password_capital: (password) => (/^\p{Lu}\P{Lu}*$/u.test(password) ? password[0].toLowerCase() + password.slice(1) : password),
};
let questioned = "";

/** Return the key of a problem with the password in a field. A slip is questioned once, with a button to correct it. */
export function checkPassword(field, slips, longest = 1024) {
  const password = field.value;
  const long = [...password].length > longest;
  const slip = !long && password !== questioned && slips.find((one) => SLIPS[one](password) !== password);
  questioned = slip ? password : "";
  $("correct").hidden = !slip;
  $("correct").onclick = () => {
    field.value = slips.reduce((corrected, one) => SLIPS[one](corrected), password);
    field.closest(".field").querySelector(".problem").textContent = "";
    field.focus();
  };
  return long ? "password_long" : slip;
}

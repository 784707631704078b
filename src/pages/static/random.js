// Passwords and passphrases from the browser's cryptographic random number generator.

// Without characters that are easily confused: l, I, 1, O, 0.
const LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.!+=";
const PASSWORD_LENGTH = 20;
const PASSPHRASE_WORDS = 6;
// Proquints: 16 bits as 5 pronounceable letters (D. S. Wilkerson, "A Proposal for Proquints", 2009).
const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aiou";

/** Return a uniformly distributed integer below a limit of at most 256. */
function randomBelow(limit) {
  const end = 256 - (256 % limit);
  for (;;) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    // Rejection sampling: the remainder alone would favour small numbers.
    if (byte < end) return byte % limit;
  }
}

const pick = (letters) => letters[randomBelow(letters.length)];

/** Return a password of 119 bits. */
export const newPassword = () => Array.from({ length: PASSWORD_LENGTH }, () => pick(LETTERS)).join("");

/** Return a passphrase of 96 bits: 6 pronounceable words of no language. */
export const newPassphrase = () =>
  Array.from({ length: PASSPHRASE_WORDS }, () => [CONSONANTS, VOWELS, CONSONANTS, VOWELS, CONSONANTS].map(pick).join("")).join("-");

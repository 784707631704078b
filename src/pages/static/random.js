// Passwords and passphrases from the browser's random source.

// Without what is easily taken for something else, such as l, I, 1, O and 0.
const LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.!+=";
const LENGTH = 20;
const WORDS = 6;
// Proquints: 16 bits as five letters that can be spoken (D. S. Wilkerson, "A Proposal for Proquints", 2009).
const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aiou";

/** Return a whole number below a limit of at most 256, each as likely as the other. */
function below(limit) {
  const end = 256 - (256 % limit);
  for (;;) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    // The last few bytes would make the first few numbers more likely.
    if (byte < end) return byte % limit;
  }
}

const one = (letters) => letters[below(letters.length)];

/** Return a password of 119 bits. */
export const newPassword = () => Array.from({ length: LENGTH }, () => one(LETTERS)).join("");

/** Return a passphrase of 96 bits, in words of no language. */
export const newPassphrase = () =>
  Array.from({ length: WORDS }, () => [CONSONANTS, VOWELS, CONSONANTS, VOWELS, CONSONANTS].map(one).join("")).join("-");

// Names of files, as a sender gave them: any text. They are shown as text, and made safe for the reader's disk.

// Control characters, and invisible ones that change the direction of the text around them.
const INVISIBLE = /[\p{Cc}\p{Cs}\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
// Names that Windows opens as devices, with any suffix.
const DEVICES = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$) *(?=\.|$)/i;
// Bytes. File systems allow 255, and browsers add to them.
const LONGEST = 200;
// Characters of a path that can matter.
const READ = 1000;
const SHOWN = [120, 60];

/** Return a name to show, with a visible sign for each invisible character and without the middle of a long name. */
export function shownName(name, number) {
  const characters = [...name.replace(INVISIBLE, "\ufffd")];
  const [head, tail] = SHOWN;
  if (characters.length <= head + tail) return characters.join("") || `file-${number}`;
  return `${characters.slice(0, head).join("")}…${characters.slice(-tail).join("")}`;
}

/** Return the name of a file on the reader's disk: the last part of a path. */
export function safeName(name, number) {
  const last = name.slice(-READ).replace(INVISIBLE, "").split(/[/\\]/).at(-1);
  const safe = last.replace(/[<>:"|?*]/g, "_").replace(/^[. ]+|[. ]+$/g, "").replace(DEVICES, "_$&");
  return shorten(safe) || `file-${number}`;
}

/** Cut the stem of a name, so that its suffix says what the file is. */
function shorten(name) {
  const length = (text) => new TextEncoder().encode(text).length;
  const suffix = name.match(/\.[^. ]{1,20}$/)?.[0] ?? "";
  const stem = [...name.slice(0, name.length - suffix.length)];
  while (stem.length && length(stem.join("") + suffix) > LONGEST) stem.pop();
  return stem.join("").trimEnd() + suffix;
}

// Checks of a rendered state, for test_rendering.py. Each returns a list of faults.

const isVisible = (element) =>
  element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".aside");
// While a modal dialog is open, nothing else can be used.
const root = () => document.querySelector("dialog:modal") ?? document.body;
const all = () => [...root().querySelectorAll("*")].filter(isVisible);
const name = (element) =>
  element.id ? `#${element.id}` : `${element.localName}.${element.classList} ${element.textContent.trim().slice(0, 20)}`;
const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());

/** Return what is cut off, hangs over the window, or makes the page scroll sideways. */
function findCutOff() {
  const { scrollWidth } = document.scrollingElement;
  const faults = scrollWidth > innerWidth ? [`the page is ${scrollWidth} wide`] : [];
  for (const element of all()) {
    const { left, right, height } = element.getBoundingClientRect();
    if (left < -1 || right > innerWidth + 1) faults.push(`${name(element)} hangs over`);
    const { overflowX, overflowY, position } = getComputedStyle(element);
    const clips = /hidden|clip/.test(overflowX + overflowY) || ["button", "summary"].includes(element.localName);
    const isCut = element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
    const isField = ["input", "textarea"].includes(element.localName);
    // The whole text is shown on request.
    const isShortened = getComputedStyle(element).textOverflow === "ellipsis" && element.title === element.textContent;
    if (clips && !isField && !isShortened && element.clientWidth && isCut) faults.push(`${name(element)} is cut off`);
    if (/fixed|sticky/.test(position) && height > innerHeight / 3) faults.push(`${name(element)} covers the page`);
    if (element.localName === "select" && isSelectCut(element)) faults.push(`${name(element)} is cut off`);
  }
  return faults;
}

function isSelectCut(select) {
  const width = select.offsetWidth;
  const copy = document.createElement("select");
  copy.className = select.className;
  copy.append(new Option(select.selectedOptions[0]?.text ?? ""));
  copy.style.cssText = "position: absolute; width: max-content !important";
  select.after(copy);
  const needed = copy.offsetWidth;
  copy.remove();
  return needed > width + 1;
}

/** Return the font size of each element with a text. */
function readFontSizes() {
  return all().filter(hasText).map((element) => [name(element), parseFloat(getComputedStyle(element).fontSize)]);
}

/** Return what moves where less motion is asked for. */
function findMotion() {
  const faults = [];
  for (const element of document.querySelectorAll("*")) {
    for (const part of [undefined, "::before", "::after"]) {
      const { transitionDuration, animationDuration, scrollBehavior } = getComputedStyle(element, part);
      const moves = `${transitionDuration}, ${animationDuration}`.split(", ").some((duration) => parseFloat(duration));
      if (moves || scrollBehavior === "smooth") faults.push(`${name(element)} moves`);
    }
  }
  return faults;
}

/** Return the controls, cards and icons of states that have no border in forced colors; a card can be that of its text. */
function findBorderless() {
  const bordered = "button, select, textarea, input:not([type=radio], [type=checkbox]), .card, .icon";
  const hasBorder = (element) => {
    const { borderTopStyle, borderTopWidth, borderTopColor, backgroundColor } = getComputedStyle(element);
    return borderTopStyle !== "none" && parseFloat(borderTopWidth) >= 1 && borderTopColor !== backgroundColor;
  };
  return all()
    .filter((element) => element.matches(bordered) && !hasBorder(element.closest("textarea") ? element.closest(".card") : element))
    .map((element) => `${name(element)} has no border`);
}

let stops = [];

/** Move the focus to the start of the document, or of its dialog; return what Tab must reach: of radio buttons, the chosen one. */
function startTabbing() {
  root().tabIndex = -1;
  root().focus();
  root().removeAttribute("tabindex");
  scrollTo(0, 0);
  const selector = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  stops = all().filter((one) => one.matches(selector) && !one.disabled && (one.type !== "radio" || one.checked));
  return stops.map(nameStop);
}

const nameStop = (element) => `${stops.indexOf(element)} ${name(element)}`;

const luminance = (channels) =>
  channels
    .map((value) => (value <= 10.31 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
const readColor = (text) => text.match(/[\d.]+/g).map(Number);

function findGround(element) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    const color = readColor(getComputedStyle(at).backgroundColor);
    if (color[3] !== 0) return color;
  }
  return [255, 255, 255];
}

/** Return the focused element and the fault of its focus ring: thin, too little contrast, or off the screen. */
function readFocus() {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(element);
  const [dark, light] = [readColor(outlineColor), findGround(element)]
    .map((color) => luminance(color.slice(0, 3)))
    .sort((one, other) => one - other);
  const contrast = (light + 0.05) / (dark + 0.05);
  const { top, bottom } = element.getBoundingClientRect();
  const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && contrast >= 3;
  const ring = `${outlineWidth} ${outlineStyle}, contrast ${contrast}`;
  if (!isSeen) return [nameStop(element), `${name(element)} has a focus ring of ${ring}`];
  const isOnScreen = bottom > 0 && top < innerHeight;
  return [nameStop(element), isOnScreen ? null : `${name(element)} is focused off the screen`];
}

globalThis.examination = { findCutOff, readFontSizes, findMotion, findBorderless, startTabbing, readFocus };

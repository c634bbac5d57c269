/** Making page elements: texts only, never markup. */

import { text } from "../texts/text.mjs";

/** Of `attributes`, a function is a listener for the event of that name. */
export function element(tag, className, attributes = {}, ...children) {
  return furnish(document.createElement(tag), className, attributes, ...children);
}

/** As `element`, of an element that is there already. */
export function furnish(made, className, attributes, ...children) {
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

let ids = 0;

/** An id for an element that another one refers to. */
export function newId() {
  ids += 1;
  return `pd360-${ids}`;
}

/** What belongs together, called by the text `name`. */
export function group(className, name, ...children) {
  return element("div", className, { role: "group", "aria-label": text(name) }, ...children);
}

/** What a button is called, and the key that does the same. */
function called(label, key) {
  return key ? { title: `${label} (${key.toUpperCase()})`, "aria-keyshortcuts": key } : { title: label };
}

/** A button that shows an icon (from the style sheet) and is called by the text `name`. */
export function iconButton(icon, name, click, { key, ...more } = {}) {
  const call = called(text(name), key);
  const attributes = { type: "button", ...call, "aria-label": call.title, click, ...more };
  return element("button", `pd360-button pd360-${icon}`, attributes);
}

/** A button that shows the text `name`. */
export function textButton(name, click, { key, ...more } = {}) {
  const attributes = { type: "button", ...called(text(name), key), click, ...more };
  return element("button", "pd360-choice", attributes, text(name));
}

/** A list with the label `name` to choose from, by names and what `named` calls them; its `control` is the list. */
export function selectRow(name, names, named, action) {
  const options = names.map((value) => element("option", "", { value }, named(value)));
  const select = element("select", "pd360-select", { change: () => action(select.value) }, ...options);
  return element("label", "pd360-length", {}, text(name), select);
}

/**
 * A slider with the label `name`: its `row`, and `show(value)`, to which a text for the read-out may be given.
 * @param {{range: number[], step: number, doubling?: boolean, shown?: (value: number) => string}} settings
 *     `doubling`: it goes up in powers of two, of which `step` is a share; `shown`: how a value is read out
 */
export function sliderRow(name, { range, step, doubling, shown }, action) {
  const [there, back] = doubling ? [Math.log2, (power) => 2 ** power] : [Number, Number];
  const [min, max] = range.map(there);
  const label = text(name);
  const input = element("input", "pd360-range", {
    type: "range", min, max, step, "aria-label": label, input: () => action(back(input.valueAsNumber)),
  });
  const output = element("span", "pd360-value", { "aria-hidden": true });
  const show = (value, words = shown(value)) => {
    input.value = there(value);
    input.setAttribute("aria-valuetext", words);
    output.textContent = words;
  };
  return { row: element("label", "pd360-slider", {}, label, input, output), show };
}

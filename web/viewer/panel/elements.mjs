/** Making page elements: texts only, never markup. */

import { text } from "../texts/text.mjs";

/** An element of a tag, or `tag` itself where it is one already. A function among `attributes` listens to that event. */
export function element(tag, className, attributes = {}, ...children) {
  const made = tag.nodeType ? tag : document.createElement(tag);
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
  return `pd360-${(ids += 1)}`;
}

/** What belongs together, called by the text `name`. */
export function group(className, name, ...children) {
  return element("div", className, { role: "group", "aria-label": text(name) }, ...children);
}

/** A button that is called by the text `name`; a `key` does the same. */
function button(className, name, click, { key, ...more } = {}) {
  const keyed = key && { title: `${text(name)} (${key.toUpperCase()})`, "aria-keyshortcuts": key };
  return element("button", className, { type: "button", title: text(name), click, ...keyed, ...more });
}

/** A button that shows an icon of the style sheet; its title is what screen readers call it. */
export function iconButton(name, click, more) {
  return button(`pd360-button pd360-icon-${name}`, name, click, more);
}

/** A button that shows the text `name`. */
export function textButton(name, click, more) {
  const made = button("pd360-choice", name, click, more);
  made.append(text(name));
  return made;
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

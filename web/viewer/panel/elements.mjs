/** Making page elements: texts only, never markup. */

/** Of `attributes`, a function is a listener for the event of that name. */
export function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** What belongs together, called `label`. */
export function group(className, label, ...children) {
  return element("div", className, { role: "group", "aria-label": label }, ...children);
}

/** A button that shows an icon (from the style sheet) and is called `label`. */
export function iconButton(name, label, click, more) {
  const attributes = { type: "button", title: label, "aria-label": label, click, ...more };
  return element("button", `pd360-button pd360-${name}`, attributes);
}

export function textButton(label, click, more) {
  return element("button", "pd360-choice", { type: "button", click, ...more }, label);
}

/** A labelled list to choose from, by names and what `named` calls them; its `control` is the list. */
export function selectRow(label, names, named, action) {
  const options = names.map((value) => element("option", "", { value }, named(value)));
  const select = element("select", "pd360-select", { change: () => action(select.value) }, ...options);
  return element("label", "pd360-length", {}, label, select);
}

/**
 * A labelled slider: its `row`, and `show(value)`, to which a text for the read-out may be given.
 * @param {{range: number[], step: number, doubling?: boolean, shown?: (value: number) => string}} settings
 *     `doubling`: it goes up in powers of two, of which `step` is a share; `shown`: how a value is read out
 */
export function sliderRow(label, { range, step, doubling, shown }, action) {
  const [there, back] = doubling ? [Math.log2, (power) => 2 ** power] : [Number, Number];
  const [min, max] = range.map(there);
  const input = element("input", "pd360-range", {
    type: "range", min, max, step, "aria-label": label, input: () => action(back(input.valueAsNumber)),
  });
  const output = element("span", "pd360-value", { "aria-hidden": true });
  const show = (value, text = shown(value)) => {
    input.value = there(value);
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  return { row: element("label", "pd360-slider", {}, label, input, output), show };
}

/** Making page elements: texts only, never markup. */

export function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A button that shows an icon (from the style sheet) and is called `label`. */
export function iconButton(name, label, action) {
  const attributes = { type: "button", title: label, "aria-label": label };
  const made = element("button", `pd360-button pd360-${name}`, attributes);
  made.addEventListener("click", action);
  return made;
}

/** A labelled list to choose from, by names and what `named` calls them; its `control` is the list. */
export function selectRow(label, names, named, action) {
  const options = names.map((value) => element("option", "", { value }, named(value)));
  const select = element("select", "pd360-select", {}, ...options);
  select.addEventListener("change", () => action(select.value));
  return element("label", "pd360-length", {}, label, select);
}

/**
 * A labelled slider: its `row`, and `show(value, text)` for its value and how it is read out.
 * @param {{label: string, range: number[], step: number}} settings
 */
export function sliderRow({ label, range, step }, action) {
  const attributes = { type: "range", min: range[0], max: range[1], step, "aria-label": label };
  const input = element("input", "pd360-range", attributes);
  const output = element("span", "pd360-value", { "aria-hidden": "true" });
  input.addEventListener("input", () => action(input.valueAsNumber));
  const show = (value, text) => {
    input.value = String(value);
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  return { row: element("label", "pd360-slider", {}, label, input, output), show };
}

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

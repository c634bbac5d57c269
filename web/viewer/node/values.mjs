/** The values of a ComfyUI node's inputs that the viewer reads and fills in. */

import { text } from "../texts/text.mjs";

function widgetOf(node, name) {
  const widget = node.widgets?.find((one) => one.name === name);
  if (!widget) throw new Error(text("noInput", { name }));
  return widget;
}

export function hasValue(node, name) {
  return Boolean(node.widgets?.some((one) => one.name === name));
}

export function readValue(node, name) {
  return widgetOf(node, name).value;
}

/** Keep an input out of LiteGraph's sight; Nodes 2.0 does it by the input's definition. */
export function hideValue(node, name) {
  widgetOf(node, name).hidden = true;
}

/** Fill in `values` by name. Returns the names of those that a wire overrules. */
export function writeValues(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(node, name);
    widget.callback?.(value); // Nodes 2.0 of older frontends shows what comes this way …
    widget.value = value; // … and may round it to a step
  }
  node.setDirtyCanvas?.(true, true); // LiteGraph draws values itself
  return Object.keys(values).filter((name) => {
    const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1;
    return slot >= 0 && Boolean(node.isInputConnected?.(slot));
  });
}

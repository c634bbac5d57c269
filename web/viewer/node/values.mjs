/** The values of a ComfyUI node's inputs that the viewer reads and fills in. */

import { text } from "../texts/text.mjs";

/** What holds the value of an input; undefined where the node has no such input. */
export function inputOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** Fill in `values` by name. Returns the names of those that a wire overrules. */
export function writeValues(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = inputOf(node, name);
    if (!widget) throw new Error(text("noInput", { name }));
    widget.callback?.(value); // Nodes 2.0 of older frontends shows what comes this way …
    widget.value = value; // … and may round it to a step
  }
  node.setDirtyCanvas?.(true, true); // LiteGraph draws values itself
  const isWired = ({ name }, slot) => Object.hasOwn(values, name) && node.isInputConnected(slot);
  return (node.inputs ?? []).filter(isWired).map(({ name }) => name);
}

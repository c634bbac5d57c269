/** Text that a node reports (ui = { text: ["…"] }), shown on the node and kept with it. */

import { ensureStyles } from "./styles.mjs";

const PROPERTY = "panodiff_text";

export function mount(host, node) {
  ensureStyles();
  return new TextWidget(host, node);
}

class TextWidget {
  constructor(host, node) {
    this.node = node;
    this.block = document.createElement("pre");
    this.block.className = "pd360-text";
    this.block.tabIndex = 0; // long texts scroll, by keyboard too
    this.block.dataset.captureWheel = "true";
    this.block.setAttribute("role", "status");
    host.append(this.block);
    this.show("");
  }

  show(text) {
    this.block.textContent = text || "Run the workflow to fill this in.";
    this.block.classList.toggle("pd360-text-empty", !text);
  }

  executed(output) {
    if (!Array.isArray(output?.text)) return;
    const text = output.text.map(String).join("\n");
    this.node.properties ??= {};
    this.node.properties[PROPERTY] = text;
    this.show(text);
  }

  restore() {
    const text = this.node.properties?.[PROPERTY];
    if (typeof text === "string") this.show(text);
  }

  outputsShown(output) {
    if (Array.isArray(output?.text)) this.show(output.text.map(String).join("\n"));
  }

  dispose() {
    this.block.remove();
  }
}

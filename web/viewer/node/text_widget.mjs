/** Text that a node reports (ui = { text: ["…"] }), shown on the node and kept with it. */

import { ensureStyles } from "./styles.mjs";
import { text } from "../texts/text.mjs";

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

  show(report) {
    this.block.textContent = report || text("runForText");
    this.block.classList.toggle("pd360-text-empty", !report);
  }

  executed(output) {
    if (!Array.isArray(output?.text)) return;
    const report = output.text.map(String).join("\n");
    this.node.properties ??= {};
    this.node.properties[PROPERTY] = report;
    this.show(report);
  }

  restore() {
    const report = this.node.properties?.[PROPERTY];
    if (typeof report === "string") this.show(report);
  }

  outputsShown(output) {
    if (Array.isArray(output?.text)) this.show(output.text.map(String).join("\n"));
  }

  dispose() {
    this.block.remove();
  }
}

/** Text that a node reports (ui = { text: ["…"] }), shown on the node and kept with it. */

import { element } from "./viewer/panel/elements.mjs";
import { ensureStyles } from "./viewer/node/styles.mjs";
import { text } from "./viewer/texts/text.mjs";

const PROPERTY = "panodiff_text";

export function mount(host, node) {
  ensureStyles();
  return new TextWidget(host, node);
}

class TextWidget {
  constructor(host, node) {
    this.node = node;
    // Long texts scroll, by keyboard too.
    this.block = element("pre", "pd360-text", { tabindex: 0, "data-capture-wheel": true, role: "status" });
    host.append(this.block);
    this.show("");
  }

  show(report) {
    this.report = report;
    this.block.textContent = report || text("runForText");
    this.block.classList.toggle("pd360-text-empty", !report);
  }

  executed(output) {
    if (!this.outputsShown(output)) return;
    this.node.properties[PROPERTY] = this.report;
  }

  restore() {
    const report = this.node.properties[PROPERTY];
    if (report) this.show(report);
  }

  /** Returns whether there was a text. */
  outputsShown(output) {
    const found = Array.isArray(output?.text);
    if (found) this.show(output.text.join("\n"));
    return found;
  }

  dispose() {
    this.block.remove();
  }
}

/** The row of buttons and sliders that belongs to the brush. */

import { RADIUS_RANGE_DEG } from "./brush.mjs";
import { element, sliderRow } from "../panel/elements.mjs";
import { text } from "../texts/text.mjs";

// The radius doubles every few steps: small brushes need finer ones.
const SLIDERS = {
  radiusDeg: {
    range: RADIUS_RANGE_DEG.map(Math.log2), step: 0.125,
    toSlider: Math.log2, fromSlider: (value) => 2 ** value, shown: (value) => `${value.toFixed(1)}°`,
  },
  softness: {
    range: [0, 1], step: 0.05,
    toSlider: Number, fromSlider: Number, shown: (value) => `${Math.round(100 * value)} %`,
  },
};

export class BrushBar {
  /** @param {{set: (changes: object) => void, step: (back: boolean) => void, clear: () => void}} actions */
  constructor(actions) {
    this.eraser = this.button(text("eraser"), "e", () => actions.set({ erases: !this.erases }));
    this.sliders = Object.entries(SLIDERS).map(([name, settings]) => {
      const change = (value) => actions.set({ [name]: settings.fromSlider(value) });
      const made = sliderRow({ ...settings, label: text(name) }, change);
      return { name, ...made };
    });
    this.element = element(
      "div", "pd360-brush-bar", { role: "group", "aria-label": text("brush"), hidden: "" },
      this.eraser, ...this.sliders.map(({ row }) => row),
      this.button(text("undo"), "z", () => actions.step(true)),
      this.button(text("redo"), "Shift+Z", () => actions.step(false)),
      this.button(text("clear"), null, () => actions.clear()),
    );
  }

  button(label, key, action) {
    const made = element("button", "pd360-choice", { type: "button" }, label);
    if (key) made.setAttribute("aria-keyshortcuts", key);
    if (key) made.title = `${label} (${key.toUpperCase()})`;
    made.addEventListener("click", action);
    return made;
  }

  show(on, settings) {
    this.element.hidden = !on;
    this.erases = settings.erases;
    this.eraser.setAttribute("aria-pressed", String(settings.erases));
    for (const { name, show } of this.sliders) {
      const { toSlider, shown } = SLIDERS[name];
      show(toSlider(settings[name]), shown(settings[name]));
    }
  }
}

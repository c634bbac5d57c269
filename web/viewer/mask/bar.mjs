/** The row of buttons and sliders that belongs to the brush. */

import { RADIUS_RANGE_DEG } from "./brush.mjs";
import { element, sliderRow } from "../panel/elements.mjs";

// The radius doubles every few steps: small brushes need finer ones.
const SLIDERS = {
  radiusDeg: {
    label: "Radius", range: RADIUS_RANGE_DEG.map(Math.log2), step: 0.125,
    toSlider: Math.log2, fromSlider: (value) => 2 ** value, text: (value) => `${value.toFixed(1)}°`,
  },
  softness: {
    label: "Softness", range: [0, 1], step: 0.05,
    toSlider: Number, fromSlider: Number, text: (value) => `${Math.round(100 * value)} %`,
  },
};

export class BrushBar {
  /** @param {{set: (changes: object) => void, step: (back: boolean) => void, clear: () => void}} actions */
  constructor(actions) {
    this.eraser = this.button("Eraser", "e", () => actions.set({ erases: !this.erases }));
    this.sliders = Object.entries(SLIDERS).map(([name, settings]) => {
      const made = sliderRow(settings, (value) => actions.set({ [name]: settings.fromSlider(value) }));
      return { name, ...made };
    });
    this.element = element(
      "div", "pd360-brush-bar", { role: "group", "aria-label": "Brush", hidden: "" },
      this.eraser, ...this.sliders.map(({ row }) => row),
      this.button("Undo", "z", () => actions.step(true)),
      this.button("Redo", "Shift+Z", () => actions.step(false)),
      this.button("Clear", null, () => actions.clear()),
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
      const { toSlider, text } = SLIDERS[name];
      show(toSlider(settings[name]), text(settings[name]));
    }
  }
}

/** Painting a mask in a viewer: brush, layer, buttons and keys, and the text that keeps the strokes. */

import { Brush, RADIUS_RANGE_DEG } from "./brush.mjs";
import { MaskLayer } from "./layer.mjs";
import { formatStrokes, parseStrokes } from "./strokes.mjs";
import { sliderRow, textButton } from "../panel/elements.mjs";
import { text } from "../texts/text.mjs";

const RADIUS_STEP = 1.25;
const SLIDERS = {
  // Small brushes need finer steps.
  radiusDeg: { range: RADIUS_RANGE_DEG, step: 0.125, doubling: true, shown: (value) => `${value.toFixed(1)}°` },
  softness: { range: [0, 1], step: 0.05, shown: (value) => `${Math.round(100 * value)} %` },
};

export class MaskTool {
  /**
   * @param {PanoramaView} view
   * @param {{read: () => string, write: (text: string) => void}} store where the strokes are kept
   */
  constructor(view, store) {
    Object.assign(this, { view, store, kept: "" });
    this.layer = new MaskLayer();
    this.brush = new Brush(view, {
      growing: (stroke, first) => {
        this.layer.show(stroke, first);
        view.requestFrame();
      },
      finished: (stroke) => this.keep(this.layer.add(stroke)),
    });
    const { settings } = this.brush;
    this.keys = {
      e: () => this.set({ erases: !settings.erases }),
      "[": () => this.set({ radiusDeg: settings.radiusDeg / RADIUS_STEP }),
      "]": () => this.set({ radiusDeg: settings.radiusDeg * RADIUS_STEP }),
      p: () => this.brush.dab(),
      z: (event) => this.step(!event.shiftKey),
    };
    this.makeBar();
    this.button = view.overlay.addTool("paint", "b", () => this.toggle(), { "aria-pressed": false });
    view.mask = this.layer;
    view.drawn.push(() => this.brush.on && this.brush.drawRing());
    this.sync();
  }

  makeBar() {
    this.eraser = textButton("eraser", this.keys.e, { key: "e" });
    this.sliders = Object.entries(SLIDERS).map(([name, settings]) =>
      ({ name, ...sliderRow(name, settings, (value) => this.set({ [name]: value })) }));
    this.bar = this.view.overlay.addBar(
      "pd360-brush-bar", "brush", this.eraser, ...this.sliders.map(({ row }) => row),
      textButton("undo", () => this.step(true), { key: "z" }),
      textButton("redo", () => this.step(false), { key: "Shift+Z" }),
      textButton("clear", () => this.clear()),
    );
    this.bar.hidden = true;
  }

  /** Take over what is kept, unless it is what was painted here. */
  sync() {
    const kept = this.store.read() ?? "";
    if (kept === this.kept) return;
    this.kept = kept;
    try {
      this.layer.load(parseStrokes(kept));
    } catch (problem) {
      this.layer.load([]);
      this.view.overlay.say(problem.message);
    }
    this.view.requestFrame();
  }

  toggle(on = !this.brush.on) {
    const { view } = this;
    this.brush.turn(on);
    view.painting = on;
    view.setKeys(this.keys, on);
    view.root.classList.toggle("pd360-painting", on);
    this.button.setAttribute("aria-pressed", on);
    this.bar.hidden = !on;
    this.show();
    view.overlay.announce(text(on ? "brushOn" : "brushOff"));
  }

  show() {
    const { settings } = this.brush;
    this.eraser.setAttribute("aria-pressed", settings.erases);
    for (const { name, show } of this.sliders) show(settings[name]);
  }

  set(changes) {
    this.brush.set(changes);
    this.show();
    const { erases, radiusDeg, softness } = this.brush.settings;
    const tool = text(erases ? "eraser" : "brush");
    const values = { tool, radius: radiusDeg.toFixed(1), softness: Math.round(100 * softness) };
    this.view.overlay.announce(text("brushIs", values));
  }

  step(back) {
    if (this.layer.step(back)) this.keep();
    else this.view.overlay.say(text(back ? "nothingToUndo" : "nothingToRedo"));
  }

  /** Also of a text that cannot be read. */
  clear() {
    this.keep(this.layer.clear());
  }

  keep() {
    const { strokes } = this.layer;
    this.kept = formatStrokes(strokes);
    this.store.write(this.kept);
    this.view.overlay.announce(text(strokes.length === 1 ? "oneStroke" : "strokes", { count: strokes.length }));
    this.view.requestFrame();
  }

  dispose() {
    this.view.renderer?.deleteTexture(this.layer.handle);
  }
}

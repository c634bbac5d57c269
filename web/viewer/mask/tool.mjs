/** Painting a mask in a viewer: brush, layer, buttons and keys, and the text that keeps the strokes. */

import { Brush } from "./brush.mjs";
import { BrushBar } from "./bar.mjs";
import { MaskLayer } from "./layer.mjs";
import { formatStrokes, parseStrokes } from "./strokes.mjs";
import { text } from "../texts/text.mjs";

const RADIUS_STEP = 1.25;

export class MaskTool {
  /**
   * @param {PanoramaView} view
   * @param {{read: () => string, write: (text: string) => void}} store where the strokes are kept
   */
  constructor(view, store) {
    Object.assign(this, { view, store, kept: "" });
    this.layer = new MaskLayer();
    this.brush = new Brush(view, {
      growing: (stroke, first) => this.refresh(this.layer.show(stroke, first)),
      finished: (stroke) => this.keep(this.layer.add(stroke)),
    });
    const actions = {
      set: (changes) => this.set(changes), step: (back) => this.step(back), clear: () => this.clear(),
    };
    this.bar = new BrushBar(actions);
    view.overlay.foot.lastChild.before(this.bar.element);
    this.button = view.addTool("brush", text("paint"), "b", () => this.toggle());
    this.button.setAttribute("aria-pressed", "false");
    this.keys = {
      e: () => this.set({ erases: !this.brush.settings.erases }),
      "[": () => this.set({ radiusDeg: this.brush.settings.radiusDeg / RADIUS_STEP }),
      "]": () => this.set({ radiusDeg: this.brush.settings.radiusDeg * RADIUS_STEP }),
      p: () => this.brush.dab(),
      z: (event) => this.step(!event.shiftKey),
    };
    view.mask = this.layer;
    view.drawn = () => this.brush.on && this.brush.drawRing();
    this.sync();
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
    this.refresh();
  }

  toggle(on = !this.brush.on) {
    const { view, brush, bar } = this;
    brush.turn(on);
    view.painting = on;
    for (const [key, action] of Object.entries(this.keys)) {
      if (on) view.tools.set(key, action);
      else view.tools.delete(key);
    }
    view.root.classList.toggle("pd360-painting", on);
    this.button.setAttribute("aria-pressed", String(on));
    bar.show(on, brush.settings);
    view.overlay.announce(text(on ? "brushOn" : "brushOff"));
  }

  set(changes) {
    const { brush, bar, view } = this;
    brush.set(changes);
    bar.show(brush.on, brush.settings);
    const { erases, radiusDeg, softness } = brush.settings;
    const tool = text(erases ? "eraser" : "brush");
    const values = { tool, radius: radiusDeg.toFixed(1), softness: Math.round(100 * softness) };
    view.overlay.announce(text("brushIs", values));
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
    this.kept = formatStrokes(this.layer.strokes);
    this.store.write(this.kept);
    const count = this.layer.strokes.length;
    this.view.overlay.announce(text(count === 1 ? "oneStroke" : "strokes", { count }));
    this.refresh();
  }

  refresh() {
    this.view.requestFrame();
  }

  dispose() {
    this.brush.dispose();
    this.layer.free(this.view.renderer);
  }
}

/** The painted mask of a viewer: its strokes, the way back and forth between them, and the texture in which the renderer sees them. */

import { MaskRaster } from "./raster.mjs";

const HEIGHT = 1024; // what is shown; the node draws the strokes as fine as the panorama

export class MaskLayer {
  constructor() {
    this.load([]);
  }

  /** Start anew with these strokes. */
  load(strokes) {
    Object.assign(this, { strokes, past: [], future: [] });
    this.redraw();
  }

  /** Show a growing stroke from its piece `first` on; it counts once it is added. */
  show(stroke, first) {
    this.raster ??= new MaskRaster(HEIGHT);
    const [top, bottom] = this.raster.draw(stroke, first);
    const [before, after] = this.changed ?? [HEIGHT, 0];
    this.changed = [Math.min(top, before), Math.max(bottom, after)];
  }

  /** A stroke that is shown already belongs to the mask from now on. */
  add(stroke) {
    this.change([...this.strokes, stroke]);
  }

  clear() {
    if (this.strokes.length > 0) this.change([]);
    this.redraw();
  }

  change(strokes) {
    this.past.push(this.strokes);
    Object.assign(this, { strokes, future: [] });
  }

  /** Step back, or forth again. Returns whether there was a step to take. */
  step(back) {
    const [from, to] = back ? [this.past, this.future] : [this.future, this.past];
    if (from.length === 0) return false;
    to.push(this.strokes);
    this.strokes = from.pop();
    this.redraw();
    return true;
  }

  redraw() {
    this.raster = null;
    this.changed = [0, HEIGHT];
    for (const stroke of this.strokes) this.show(stroke, 0);
  }

  /** The texture as `renderer` draws it, or null where nothing is painted. */
  texture(renderer) {
    if (!this.raster || renderer.lost) return null;
    const { width, height, data } = this.raster;
    if (!renderer.textures.has(this.handle)) {
      this.handle = renderer.createMask(width, height); // the first, or after a lost context
      this.changed = [0, height];
    }
    if (this.changed) renderer.updateMask(this.handle, data, ...this.changed);
    this.changed = null;
    return this.handle;
  }
}

/** The painted mask of a viewer: its strokes, and the texture in which the renderer sees them. */

import { MaskRaster } from "./raster.mjs";
import { StrokeHistory } from "./strokes.mjs";

const HEIGHT = 1024; // what is shown; the node draws the strokes as fine as the panorama

export class MaskLayer {
  constructor() {
    this.handle = null;
    this.load([]);
  }

  get strokes() {
    return this.history.strokes;
  }

  /** Start anew with these strokes. */
  load(strokes) {
    this.history = new StrokeHistory(strokes);
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
    this.history.change([...this.strokes, stroke]);
  }

  clear() {
    if (this.strokes.length > 0) this.history.change([]);
    this.redraw();
  }

  /** Step back, or forth again. Returns whether there was a step to take. */
  step(back) {
    const stepped = back ? this.history.undo() : this.history.redo();
    if (stepped) this.redraw();
    return stepped;
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

  free(renderer) {
    renderer?.deleteTexture(this.handle);
    this.handle = null;
  }
}

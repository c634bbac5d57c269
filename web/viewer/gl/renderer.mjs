/**
 * One WebGL2 context for all viewers of a page.
 *
 * Browsers keep about 16 contexts and drop the oldest without asking, so the viewers share this one: each
 * draws into it and copies the result to its own 2D canvas. The context exists while at least one viewer
 * does.
 */

import { EYE_PARTS, eyesShown, stereoOf } from "../picture/stereo.mjs";
import { coverage } from "../geometry/projection.mjs";
import { buildProgram } from "./program.mjs";
import { Readback } from "./readback.mjs";
import { variantOf } from "./shader.mjs";
import { text } from "../texts/text.mjs";
import { TilePool, TileStore } from "./tiles.mjs";
import { whenDone } from "./waiting.mjs";

const MAX_ANISOTROPY = 8;

// The faces F, R, B, L, U, D of a 3 × 2 picture, counted from TEXTURE_CUBE_MAP_POSITIVE_X; they lie as GL has them.
const CUBE_TARGETS = [4, 0, 5, 1, 2, 3];

/** The renderer that all viewers share; null where there is none. */
export const shared = { renderer: null };

/** The shared renderer, made for the first viewer. Throws an Error where the browser has no WebGL2. */
export function acquireRenderer(viewer) {
  shared.renderer ??= new Renderer();
  shared.renderer.viewers.add(viewer);
  return shared.renderer;
}

/** A viewer is gone; with the last one the context goes too. */
export function releaseRenderer(viewer) {
  const { renderer } = shared;
  renderer.viewers.delete(viewer);
  if (renderer.viewers.size > 0) return;
  renderer.dispose();
  shared.renderer = null;
}

/** Whether a processor draws, where long areas of a texture cost more than they show. */
function isSoftware(gl) {
  const unmasked = gl.getExtension("WEBGL_debug_renderer_info")?.UNMASKED_RENDERER_WEBGL;
  return /swiftshader|llvmpipe|software|basic render/i.test(gl.getParameter(unmasked ?? gl.RENDERER));
}

class Renderer {
  constructor() {
    this.viewers = new Set();
    this.textures = new Set();
    this.canvas = document.createElement("canvas");
    this.shrink();
    this.gl = this.canvas.getContext("webgl2", {
      alpha: false, antialias: false, depth: false, powerPreference: "high-performance",
    });
    if (!this.gl) throw new Error(text("noWebgl"));
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // asks the browser to restore it
      this.deleteTextures();
      for (const viewer of this.viewers) viewer.contextLost();
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      for (const viewer of this.viewers) viewer.contextRestored();
    });
    this.prepare();
  }

  prepare() {
    const { gl } = this;
    this.programs = {}; // by variant of the shader
    gl.enable(gl.SCISSOR_TEST);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1); // rows of any length
    this.maxTextureSize = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.anisotropic = gl.getExtension("EXT_texture_filter_anisotropic");
    const most = this.anisotropic ? gl.getParameter(this.anisotropic.MAX_TEXTURE_MAX_ANISOTROPY_EXT) : 1;
    this.software = isSoftware(gl);
    this.anisotropy = this.software ? 1 : Math.min(most, MAX_ANISOTROPY);
    this.pool = new TilePool(this);
    this.readback = this.software ? new Readback(gl) : null;
  }

  get lost() {
    return this.gl.isContextLost();
  }

  /** Upload a loaded picture: a panorama, two by the setting `stereo` (see picture/stereo.mjs), or a cube. */
  createPicture(picture, stereo) {
    const layout = stereoOf(picture, stereo);
    const [left, right] = picture.cube
      ? [this.createCube(picture.bitmap)]
      : EYE_PARTS[layout].map((part) => this.createTexture(picture, part));
    return Object.assign(left, { right, layout });
  }

  /**
   * Upload a picture, or of it a `part`, in shares. Its `bitmap` is an ImageBitmap, a canvas or a video; `width` and
   * `height` are its size before any downscaling, which decides how it lies on the sphere. With `tiles` (see
   * picture/pyramid.mjs) the bitmap is a preview. Returns a handle for `draw` and `deleteTexture`.
   */
  createTexture(picture, part = EYE_PARTS.one[0]) {
    const { gl, anisotropy } = this;
    const { bitmap } = picture;
    const size = [bitmap.videoWidth || bitmap.width, bitmap.videoHeight || bitmap.height];
    const [left, top, width, height] = part.map((share, index) => Math.floor(share * size[index % 2]));
    const trueWidth = picture.width * part[2];
    const lies = coverage(trueWidth, picture.height * part[3], picture.crop);
    const scaled = (sizes) => sizes.map((size) => (size * width) / trueWidth);
    const handle = this.keep(gl.TEXTURE_2D, bitmap, [[gl.TEXTURE_2D, left, top, width, height]], {
      ...lies, anisotropy,
      averages: [], // of seam heat maps
      size: [width, height],
      around: lies.sphere[0],
      sphere: scaled(lies.sphere),
      offset: scaled(lies.offset),
    });
    if (picture.tiles && part === EYE_PARTS.one[0]) handle.tiles = new TileStore(this, picture, lies);
    return handle;
  }

  /** Upload six faces that lie 3 × 2: F R B above L U D. */
  createCube(source) {
    const { gl } = this;
    const size = source.width / 3;
    if (size > gl.getParameter(gl.MAX_CUBE_MAP_TEXTURE_SIZE)) {
      throw new Error(text("largeCube", { size }));
    }
    const faces = CUBE_TARGETS.map((target, face) => [
      gl.TEXTURE_CUBE_MAP_POSITIVE_X + target, (face % 3) * size, face < 3 ? 0 : size, size, size,
    ]);
    return this.keep(gl.TEXTURE_CUBE_MAP, source, faces, {
      cube: true, full: true, anisotropy: 1, around: 4 * size, sphere: [4 * size, 2 * size], offset: [0, 0],
    });
  }

  /** A handle whose texture holds `pieces` of `source`: [where, left, top, width, height]. */
  keep(target, source, pieces, more) {
    const { gl } = this;
    const [, , , width, height] = pieces[0];
    const bytes = Math.round((width * height * pieces.length * 4 * 4) / 3); // RGBA and its mipmaps
    const handle = this.newTexture(target, { ...more, pieces, bytes });
    gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    this.fill(handle, source);
    return handle;
  }

  /** A handle of a texture, which is bound now. It is read around its edge where it `wraps`. */
  newTexture(target, { wraps, anisotropy, filter = this.gl.LINEAR, ...more }) {
    const { gl } = this;
    const handle = { ...more, wraps, anisotropy, target, texture: gl.createTexture() };
    this.textures.add(handle);
    gl.bindTexture(target, handle.texture);
    gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, filter);
    gl.texParameteri(target, gl.TEXTURE_MAG_FILTER, filter);
    gl.texParameteri(target, gl.TEXTURE_WRAP_S, wraps ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    gl.texParameteri(target, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    if (anisotropy > 1) gl.texParameterf(target, this.anisotropic.TEXTURE_MAX_ANISOTROPY_EXT, anisotropy);
    return handle;
  }

  /** Fill a picture's texture from a `source` of the same size: the next frame of a video. */
  fill({ texture, target, pieces, right }, source) {
    const { gl } = this;
    const skip = (columns, rows) => {
      gl.pixelStorei(gl.UNPACK_SKIP_PIXELS, columns);
      gl.pixelStorei(gl.UNPACK_SKIP_ROWS, rows);
    };
    gl.bindTexture(target, texture);
    for (const [where, left, top, width, height] of pieces) {
      skip(left, top);
      gl.texImage2D(where, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, source);
    }
    skip(0, 0);
    gl.generateMipmap(target);
    if (right) this.fill(right, source);
  }

  /** An empty mask over the whole sphere: a handle for `updateMask`, `draw` and `deleteTexture`. */
  createMask(width, height) {
    const { gl } = this;
    const handle = this.newTexture(gl.TEXTURE_2D, { width, bytes: width * height, wraps: true });
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R8, width, height);
    return handle;
  }

  /** Fill in the rows [top, bottom) of `data`, bytes of the whole mask. */
  updateMask({ texture, width }, data, top, bottom) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    const rows = data.subarray(top * width, bottom * width);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, top, width, bottom - top, gl.RED, gl.UNSIGNED_BYTE, rows);
  }

  /** Keep the last drawing, of a window of this size: a handle for `draw` and `deleteTexture`. */
  keepDrawing(width, height) {
    const { gl } = this;
    const handle = this.newTexture(gl.TEXTURE_2D, { bytes: 4 * width * height });
    gl.copyTexImage2D(gl.TEXTURE_2D, 0, gl.RGB, 0, 0, width, height, 0);
    return handle;
  }

  deleteTexture(handle) {
    if (!handle || !this.textures.delete(handle)) return;
    this.gl.deleteTexture(handle.texture);
    handle.tiles?.close();
    this.deleteTexture(handle.right);
  }

  deleteTextures() {
    for (const handle of this.textures) this.deleteTexture(handle);
  }

  /**
   * Draw what `lens` shows of `picture` (a handle or null) and copy it to `target`, a 2D canvas context.
   * With an `opacity` below 1 it lies over what is there; a `mask` tints what is painted; `span` draws the
   * columns [left, right) only; a `difference` of two drawings, {drawings, scale}, stands in for the picture.
   */
  draw(picture, lens, display, target, { opacity = 1, span = [0, target.canvas.width], ...more } = {}) {
    if (this.lost) return;
    const { canvas } = this;
    const { width, height } = target.canvas;
    const [left, right] = span;
    // As large as the largest viewer needs; resizing for each viewer would be slow.
    if (canvas.width < width) canvas.width = width;
    if (canvas.height < height) canvas.height = height;
    picture?.tiles?.see(lens, display.smooth);
    this.shade({ picture, lens, display, ...more }, { x: 0, y: 0, width, height }, span);
    // Drawn to be kept.
    if (opacity === 0) return;
    if (this.readback && opacity === 1) {
      this.readback.put(target, left, right - left, height);
      return;
    }
    target.globalAlpha = opacity;
    // GL counts rows from below: the drawn part is at the bottom of the shared canvas.
    const part = [right - left, height];
    target.drawImage(canvas, left, canvas.height - height, ...part, left, 0, ...part);
    target.globalAlpha = 1;
  }

  /**
   * Make a drawing, {picture, lens, display, mask, difference}, in a part of the framebuffer that is bound, and of that
   * only the columns [left, right).
   */
  shade(drawing, { x, y, width, height }, [left, right] = [0, width]) {
    const { gl } = this;
    gl.viewport(x, y, width, height);
    gl.scissor(x + left, y, right - left, height);
    for (const { part, channels, program } of this.parts({ ...drawing, width, height })) {
      program.use(part);
      gl.colorMask(...channels, true);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
  }

  /** What a drawing consists of: for each eye that is seen, what it draws, in which colours, with which program. */
  parts(drawing) {
    const { gl, programs } = this;
    return eyesShown(drawing.picture, drawing.display.eye).map(([picture, ...channels]) => {
      const part = { ...drawing, gl, picture };
      const variant = variantOf(part);
      return { part, channels, program: (programs[variant] ??= buildProgram(gl, variant)) };
    });
  }

  /**
   * Wait until a drawing would not have to: for the upload of its picture and for its programs, which a driver may
   * finish only when it draws. The page goes on meanwhile.
   */
  async settle(drawing) {
    drawing.picture.tiles?.choose(drawing.lens, drawing.display.smooth);
    this.parts({ ...drawing, width: 1, height: 1 });
    await whenDone(this.gl);
    if (this.lost) return;
    this.shade(drawing, { x: 0, y: 0, width: 1, height: 1 });
    await whenDone(this.gl);
  }

  /** After a picture larger than any viewer: the next drawings let the shared canvas grow to what they need. */
  shrink() {
    this.canvas.width = this.canvas.height = 1;
    this.readback?.free();
  }

  dispose() {
    this.deleteTextures();
    for (const { program } of Object.values(this.programs)) this.gl.deleteProgram(program);
    this.gl.getExtension("WEBGL_lose_context")?.loseContext(); // frees all now, not at some garbage collection
  }
}

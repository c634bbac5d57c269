/**
 * One WebGL2 context for all viewers of a page.
 *
 * Browsers keep about 16 contexts and drop the oldest without asking, so the viewers share this one: each
 * draws into it and copies the result to its own 2D canvas. The context exists while at least one viewer
 * does.
 */

import { EYE_PARTS, eyesShown, stereoOf } from "../picture/stereo.mjs";
import { coverage } from "../geometry/projection.mjs";
import { setHeat } from "./heat.mjs";
import { buildProgram } from "./program.mjs";
import { variantOf } from "./shader.mjs";
import { text } from "../texts/text.mjs";
import { TilePool, TileStore } from "./tiles.mjs";
import { setDifference, setDisplay, setLens, setMask, setPicture, setTiles } from "./uniforms.mjs";

const MAX_ANISOTROPY = 8;

// The faces F, R, B, L, U, D of a 3 × 2 picture, counted from TEXTURE_CUBE_MAP_POSITIVE_X; they lie as GL has them.
const CUBE_TARGETS = [4, 0, 5, 1, 2, 3];

let shared = null;

/** The shared renderer, made for the first viewer. Throws an Error where the browser has no WebGL2. */
export function acquireRenderer(viewer) {
  shared = shared ?? new Renderer();
  shared.viewers.add(viewer);
  return shared;
}

/** A viewer is gone; with the last one the context goes too. */
export function releaseRenderer(viewer) {
  if (!shared) return;
  shared.viewers.delete(viewer);
  if (shared.viewers.size === 0) {
    shared.dispose();
    shared = null;
  }
}

/** What is held on the graphics side right now: for tests and bug reports. */
export function rendererStatistics() {
  const textures = shared ? [...shared.textures] : [];
  return {
    contexts: shared ? 1 : 0,
    viewers: shared ? shared.viewers.size : 0,
    textures: textures.length,
    textureBytes: textures.reduce((sum, texture) => sum + texture.bytes, 0),
  };
}

/** [left, top, width, height] in pixels of a part of `source`, given in shares. */
function partOf(source, [left, top, width, height]) {
  const [across, down] = [source.videoWidth || source.width, source.videoHeight || source.height];
  return [across * left, down * top, across * width, down * height].map(Math.floor);
}

/** Whether a processor draws, where long areas of a texture cost more than they show. */
function isSoftware(gl) {
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

class Renderer {
  constructor() {
    this.viewers = new Set();
    this.textures = new Set();
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.canvas.height = 1;
    this.gl = this.canvas.getContext("webgl2", {
      alpha: false, antialias: false, depth: false, stencil: false, powerPreference: "high-performance",
    });
    if (!this.gl) throw new Error(text("noWebgl"));
    this.onLost = (event) => {
      event.preventDefault(); // asks the browser to restore it
      for (const handle of this.textures) handle.tiles?.close();
      this.textures.clear();
      for (const viewer of this.viewers) viewer.contextLost();
    };
    this.onRestored = () => {
      this.prepare();
      for (const viewer of this.viewers) viewer.contextRestored();
    };
    this.canvas.addEventListener("webglcontextlost", this.onLost);
    this.canvas.addEventListener("webglcontextrestored", this.onRestored);
    this.prepare();
  }

  prepare() {
    const { gl } = this;
    this.programs = new Map(); // by variant of the shader
    this.vertices = gl.createVertexArray();
    gl.enable(gl.SCISSOR_TEST);
    this.maxTextureSize = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.anisotropic = gl.getExtension("EXT_texture_filter_anisotropic");
    const most = this.anisotropic ? gl.getParameter(this.anisotropic.MAX_TEXTURE_MAX_ANISOTROPY_EXT) : 1;
    this.software = isSoftware(gl);
    this.anisotropy = this.software ? 1 : Math.min(most, MAX_ANISOTROPY);
    this.pool = new TilePool(this);
  }

  get lost() {
    return this.gl.isContextLost();
  }

  /** Upload a loaded picture: a panorama, two by the setting `stereo` (see picture/stereo.mjs), or a cube. */
  createPicture(picture, stereo) {
    const layout = stereoOf(picture, stereo);
    const [left, right] = picture.cube
      ? [this.createCube(picture.bitmap)]
      : EYE_PARTS[layout].map((part) => this.createTexture(picture.bitmap, picture, part));
    return Object.assign(left, { right, layout });
  }

  /**
   * Upload a picture. `source` is an ImageBitmap, a canvas or a video; `trueSize` its size before any downscaling,
   * which decides how it lies on the sphere; `part` what of it is meant, in shares. With `trueSize.tiles` (see
   * picture/pyramid.mjs) `source` is a preview. Returns a handle for `draw` and `deleteTexture`.
   */
  createTexture(source, trueSize, part = EYE_PARTS.one[0]) {
    const { gl, anisotropy } = this;
    const [left, top, width, height] = partOf(source, part);
    const trueWidth = trueSize.width * part[2];
    const { full, wraps, sphere, offset } = coverage(trueWidth, trueSize.height * part[3], trueSize.crop);
    const scaled = (sizes) => sizes.map((size) => (size * width) / trueWidth);
    const handle = this.keep(gl.TEXTURE_2D, source, [[gl.TEXTURE_2D, left, top, width, height]], {
      full, wraps, anisotropy,
      size: [width, height],
      around: sphere[0],
      sphere: full ? [width, height] : scaled(sphere),
      offset: scaled(offset),
    });
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, wraps ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    if (anisotropy > 1) gl.texParameterf(gl.TEXTURE_2D, this.anisotropic.TEXTURE_MAX_ANISOTROPY_EXT, anisotropy);
    if (trueSize.tiles && part === EYE_PARTS.one[0]) handle.tiles = new TileStore(this, trueSize, sphere, offset);
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
    const handle = { ...more, texture: gl.createTexture(), target, pieces, bytes };
    this.fill(handle, source);
    gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(target, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    this.textures.add(handle);
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
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
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
    const handle = { texture: gl.createTexture(), width, bytes: width * height };
    gl.bindTexture(gl.TEXTURE_2D, handle.texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R8, width, height);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.REPEAT);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.textures.add(handle);
    return handle;
  }

  /** Fill in the rows [top, bottom) of `data`, bytes of the whole mask. */
  updateMask({ texture, width }, data, top, bottom) {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, texture);
    const rows = data.subarray(top * width, bottom * width);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, top, width, bottom - top, gl.RED, gl.UNSIGNED_BYTE, rows);
  }

  /** Keep the last drawing, of a window of this size, in `handle` or a new one; for `draw` and `deleteTexture`. */
  keepDrawing(width, height, handle) {
    const { gl } = this;
    const kept = this.textures.has(handle) ? handle : { texture: gl.createTexture() };
    kept.bytes = 4 * width * height;
    gl.bindTexture(gl.TEXTURE_2D, kept.texture);
    gl.copyTexImage2D(gl.TEXTURE_2D, 0, gl.RGB, 0, 0, width, height, 0);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    this.textures.add(kept);
    return kept;
  }

  deleteTexture(handle) {
    if (!handle || !this.textures.delete(handle)) return;
    this.gl.deleteTexture(handle.texture);
    handle.tiles?.close();
    this.deleteTexture(handle.right);
  }

  /**
   * Draw what `lens` shows of `picture` (a handle or null) and copy it to `target`, a 2D canvas context.
   * With an `opacity` below 1 it lies over what is there; a `mask` tints what is painted; `span` draws the
   * columns [left, right) only; a `difference` of two drawings, {drawings, scale}, stands in for the picture.
   */
  draw(picture, lens, display, target, { opacity = 1, mask = null, difference = null, span = null } = {}) {
    if (this.lost) return false;
    const { width, height } = target.canvas;
    const [left, right] = span ?? [0, width];
    this.growTo(width, height);
    picture?.tiles?.see(lens, display.smooth);
    this.shade(picture, lens, display, { mask, difference }, { x: 0, y: 0, width, height }, [left, right]);
    // Drawn to be kept.
    if (opacity === 0) return true;
    target.globalAlpha = opacity;
    // GL counts rows from below: the drawn part is at the bottom of the shared canvas.
    const part = [right - left, height];
    target.drawImage(this.canvas, left, this.canvas.height - height, ...part, left, 0, ...part);
    target.globalAlpha = 1;
    return true;
  }

  /** Draw into a part of the framebuffer that is bound, and of that only the columns [left, right). */
  shade(picture, lens, display, { mask = null, difference = null }, { x, y, width, height }, [left, right] = [0, width]) {
    const { gl } = this;
    gl.viewport(x, y, width, height);
    gl.scissor(x + left, y, right - left, height);
    gl.bindVertexArray(this.vertices);
    for (const [eye, ...channels] of eyesShown(picture, display.eye)) {
      const { program, locations } = this.programFor(variantOf(eye, lens, display, mask, difference));
      gl.useProgram(program);
      setLens(gl, locations, lens, width, height);
      setPicture(gl, locations, eye);
      setDisplay(gl, locations, display);
      if (mask) setMask(gl, locations, mask);
      if (eye?.tiles?.useful) setTiles(gl, locations, eye.tiles);
      if (eye && !eye.cube && display.heat) setHeat(gl, locations, eye, lens);
      if (difference) setDifference(gl, locations, difference);
      gl.colorMask(...channels, true);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
    gl.colorMask(true, true, true, true);
  }

  programFor(variant) {
    const key = variant.join();
    if (!this.programs.has(key)) this.programs.set(key, buildProgram(this.gl, variant));
    return this.programs.get(key);
  }

  /** After a picture larger than any viewer: the next drawings let the shared canvas grow to what they need. */
  shrink() {
    this.canvas.width = this.canvas.height = 1;
  }

  /** The shared canvas is as large as the largest viewer needs; resizing it for each viewer would be slow. */
  growTo(width, height) {
    if (this.canvas.width < width) this.canvas.width = width;
    if (this.canvas.height < height) this.canvas.height = height;
  }

  dispose() {
    this.canvas.removeEventListener("webglcontextlost", this.onLost);
    this.canvas.removeEventListener("webglcontextrestored", this.onRestored);
    for (const handle of [...this.textures]) this.deleteTexture(handle);
    this.gl.deleteVertexArray(this.vertices);
    for (const { program } of this.programs.values()) this.gl.deleteProgram(program);
    this.gl.getExtension("WEBGL_lose_context")?.loseContext(); // frees it now, not at some garbage collection
  }
}

/**
 * One WebGL2 context for all viewers of a page.
 *
 * Browsers keep about 16 contexts and drop the oldest without asking, so the viewers share this one: each
 * draws into it and copies the result to its own 2D canvas. The context exists while at least one viewer
 * does.
 */

import { coverage } from "../geometry/projection.mjs";
import { setHeat } from "./heat.mjs";
import { VERTEX_SHADER, fragmentShader, variantOf } from "./shader.mjs";
import { text } from "../texts/text.mjs";
import { UNIFORMS, setDifference, setDisplay, setLens, setMask, setPicture } from "./uniforms.mjs";

const MAX_ANISOTROPY = 8;

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

function compileShader(gl, type, source) {
  const shader = gl.createShader(type);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

function buildProgram(gl, variant) {
  const program = gl.createProgram();
  const shaders = [
    compileShader(gl, gl.VERTEX_SHADER, VERTEX_SHADER),
    compileShader(gl, gl.FRAGMENT_SHADER, fragmentShader(variant)),
  ];
  for (const shader of shaders) gl.attachShader(program, shader);
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = shaders.map((shader) => gl.getShaderInfoLog(shader)).join("\n");
    throw new Error(text("shaderFails", { log: `${gl.getProgramInfoLog(program)}\n${logs}` }));
  }
  for (const shader of shaders) gl.deleteShader(shader);
  const locations = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)]));
  return { program, locations };
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
    this.anisotropy = isSoftware(gl) ? 1 : Math.min(most, MAX_ANISOTROPY);
  }

  get lost() {
    return this.gl.isContextLost();
  }

  /**
   * Upload a picture. `source` is an ImageBitmap or a canvas; `trueSize` its size before any downscaling,
   * which decides how it lies on the sphere. Returns a handle for `draw` and `deleteTexture`.
   */
  createTexture(source, trueSize) {
    const { gl } = this;
    const placement = coverage(trueSize.width, trueSize.height);
    const scale = source.width / trueSize.width;
    const handle = {
      texture: gl.createTexture(),
      full: placement.full,
      wraps: placement.wraps,
      size: [source.width, source.height],
      anisotropy: this.anisotropy,
      sphere: placement.full ? [source.width, source.height] : placement.sphere.map((size) => size * scale),
      bytes: Math.round((source.width * source.height * 4 * 4) / 3), // RGBA and its mipmaps
    };
    gl.bindTexture(gl.TEXTURE_2D, handle.texture);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, source);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, handle.wraps ? gl.REPEAT : gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    if (this.anisotropy > 1) {
      gl.texParameterf(gl.TEXTURE_2D, this.anisotropic.TEXTURE_MAX_ANISOTROPY_EXT, this.anisotropy);
    }
    this.textures.add(handle);
    return handle;
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
    const { program, locations } = this.programFor(variantOf(picture, lens, display, mask, difference));
    gl.useProgram(program);
    setLens(gl, locations, lens, width, height);
    setPicture(gl, locations, picture);
    setDisplay(gl, locations, display);
    if (mask) setMask(gl, locations, mask);
    if (picture && display.heat) setHeat(gl, locations, picture, lens);
    if (difference) setDifference(gl, locations, difference);
    gl.viewport(x, y, width, height);
    gl.scissor(x + left, y, right - left, height);
    gl.bindVertexArray(this.vertices);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
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

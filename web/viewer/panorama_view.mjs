/**
 * The viewer itself, as one element: a canvas, its overlay and its controls. Knows nothing about ComfyUI.
 *
 *   const view = new PanoramaView(host, { label: "…" });
 *   await view.show("/view?filename=…");   // or a Blob
 *   view.dispose();
 */

import { Camera } from "./motion/camera.mjs";
import { Controls } from "./motion/controls.mjs";
import { DISPLAY, changedDisplay, displayIn } from "./picture/display.mjs";
import { createLens, windowToLonLat } from "./geometry/lens.mjs";
import { element } from "./panel/elements.mjs";
import { ModeSwitch } from "./motion/mode_switch.mjs";
import { Overlay } from "./panel/overlay.mjs";
import { acquireRenderer, releaseRenderer } from "./gl/renderer.mjs";
import { closePicture, follow, pictureFor, renew, warningsAbout } from "./picture/source.mjs";
import { saveView } from "./picture/capture.mjs";
import { text } from "./texts/text.mjs";

const MAX_PIXEL_RATIO = 2; // finer than this costs time and shows nothing
const ZOOM_STEP = 0.8;

export class PanoramaView {
  /**
   * @param {HTMLElement} root becomes the viewer; must have a size
   * @param {{label?: string, emptyText?: string, wheelNeedsFocus?: boolean}} options
   *     `wheelNeedsFocus`: the wheel belongs to the page (a ComfyUI canvas) until the viewer was clicked
   */
  constructor(root, { label = text("viewer"), emptyText = "", wheelNeedsFocus = false } = {}) {
    Object.assign(this, { root, emptyText, wheelNeedsFocus, onScreen: true, frame: 0, picture: null, peers: () => [] });
    root.panoramaView = this; // for scripts that drive the page
    const motion = window.matchMedia("(prefers-reduced-motion: reduce)");
    this.camera = new Camera(() => motion.matches);
    this.modes = new ModeSwitch(this.camera);
    this.display = DISPLAY;
    this.keys = new Map(); // what they do
    // Tools set `mask`, a MaskLayer over the picture, `painting` while a brush has the left button, `sighted`, called
    // with whether the viewer came into sight, `restored`, called when a context is back, and `peers`, linked viewers.
    this.drawn = []; // what is called after each drawing
    this.paint = (...how) => this.renderer.draw(this.picture, ...how); // a comparison draws two pictures
    this.listeners = new AbortController();
    this.buildElement(label);
    this.overlay.addTool("save", "s", () => saveView(this));
    this.listenToPage();
    this.startRenderer();
  }

  buildElement(label) {
    this.canvas = element("canvas", "pd360-canvas", { "aria-hidden": true });
    const attributes = {
      tabindex: 0, role: "application", "aria-label": label,
      "data-capture-wheel": true, // ComfyUI leaves the wheel to a focused element that says so
    };
    element(this.root, "pd360", attributes, this.canvas);
    this.overlay = new Overlay(this);
    this.controls = new Controls(this);
    this.canvas.addEventListener("pointerdown", () => this.overlay.options.toggle(false));
    this.overlay.showMessage(this.emptyText);
  }

  listenToPage() {
    const { signal } = this.listeners;
    document.addEventListener("visibilitychange", () => this.requestFrame(), { signal });
    this.resizing = new ResizeObserver(() => this.fitCanvas());
    this.resizing.observe(this.root);
    this.watching = new IntersectionObserver((entries) => {
      this.onScreen = entries.at(-1).isIntersecting;
      this.sighted?.(this.onScreen);
      this.requestFrame();
    });
    this.watching.observe(this.root);
  }

  startRenderer() {
    try {
      this.renderer = acquireRenderer(this);
      this.context = this.canvas.getContext("2d", { alpha: false, willReadFrequently: this.renderer.software });
      this.fitCanvas();
    } catch (problem) {
      this.renderer = null;
      this.overlay.showMessage(problem.message, true);
    }
  }

  fitCanvas() {
    const { root } = this;
    const ratio = Math.min(window.devicePixelRatio, MAX_PIXEL_RATIO);
    const [width, height] = [root.clientWidth, root.clientHeight].map((size) => Math.ceil(size * ratio));
    if (width === 0 || height === 0) return;
    this.modes.setWindow(width, height);
    if (width === this.canvas.width && height === this.canvas.height) return;
    Object.assign(this.canvas, { width, height });
    this.drawNow(); // in the same frame: a resized canvas is blank until drawn
  }

  /**
   * Load a picture and show it; the one before stays until then. A later call overtakes an earlier one.
   * @param {string|Blob|{load, ready}} source same-origin address, file, or what `pictureFor` takes
   * @param {object} options of `pictureFor`
   * @returns {Promise<boolean>} false when overtaken by another or disposed meanwhile. Throws what loading throws.
   */
  async show(source, options = {}) {
    if (!this.renderer) throw new Error(text("noWebgl"));
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    this.loaded = { source, options }; // to load it again after a lost context
    if (!source.ready) this.overlay.showBusy(true);
    try {
      await this.take(await pictureFor(source, options, this.renderer.maxTextureSize, signal), signal, !source.ready);
    } catch (problem) {
      if (!signal.aborted) throw problem;
    } finally {
      if (this.loading.signal === signal) this.overlay.showBusy(false);
    }
    return !signal.aborted || (this.loaded?.source === source && this.reloading);
  }

  /** Show a loaded picture; with `settled` when its first drawing will not keep the page waiting. */
  async take(picture, signal, settled) {
    const { renderer, mode, display } = this;
    const late = () => signal.aborted || renderer.lost;
    let unseen = null; // the new texture, then the one that it replaces
    try {
      if (late()) return;
      unseen = renderer.createPicture(picture, display.stereo);
      const { width, height } = this.canvas;
      if (settled) await renderer.settle({ picture: unseen, lens: this.lens(width, height), display: displayIn(mode, display) });
      if (late()) return;
      [this.picture, unseen] = [unseen, this.picture];
      follow(this, this.picture, warningsAbout(picture, this.picture.layout));
      this.overlay.options.show();
      this.overlay.showMessage("");
      this.root.classList.add("pd360-has-picture");
      renew(this);
    } finally {
      renderer?.deleteTexture(unseen);
      if (!picture.kept) closePicture(picture);
    }
  }

  /** Back to the empty sphere, with a line that says why. */
  clear(message = this.emptyText, isError = false) {
    this.loading?.abort();
    this.renderer?.deleteTexture(this.picture);
    this.picture = this.loaded = null;
    this.root.classList.remove("pd360-has-picture");
    this.overlay.showNotices([]);
    this.overlay.showMessage(message, isError);
    renew(this);
  }

  /** Where the view looks: {yawDeg, pitchDeg, rollDeg, fovDeg}; `fovDeg` is horizontal. */
  get pose() {
    return this.camera.current;
  }

  /** Look somewhere at once and draw it; members left out stay. */
  lookAt(pose) {
    this.camera.jumpTo(pose);
    this.drawNow();
  }

  /** How pictures are shown now, without what lies over them: as they are saved and counted. */
  get plainDisplay() {
    return { ...displayIn(this.mode, this.display), seamLine: false };
  }

  /** The name of the mode, one of MODES. */
  get mode() {
    return this.modes.mode;
  }

  /** Go to a mode, as a number key does; with `atOnce` without the way between. */
  setMode(mode, { atOnce = false } = {}) {
    if (!this.modes.enter(mode, { atOnce })) return;
    this.overlay.options.show();
    this.requestFrame();
  }

  /** Change some of the settings of picture/display.mjs. */
  setDisplay(changes) {
    const { stereo } = this.display;
    this.display = changedDisplay(this.display, changes);
    this.overlay.options.show();
    if (this.display.stereo !== stereo) this.reload();
    this.requestFrame();
  }

  /** Keys, by name, do these actions from now on, or no more. */
  setKeys(actions, on = true) {
    for (const [key, action] of Object.entries(actions)) {
      if (on) this.keys.set(key, action);
      else this.keys.delete(key);
    }
  }

  /** Closer by so many steps, or further away. */
  zoom(steps) {
    this.camera.zoom(ZOOM_STEP ** steps);
    this.requestFrame();
  }

  reset() {
    this.camera.glideTo(this.modes.home);
    this.requestFrame();
  }

  /** Keys come here now; the ring, which is for keys, waits for the first. */
  focus() {
    this.root.focus({ preventScroll: true, focusVisible: false });
  }

  get surfaceSize() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  get middle() {
    return this.surfaceSize.map((size) => size / 2);
  }

  /** The lens of what is seen now, for a window of this size. */
  lens(width, height) {
    return createLens(this.mode, this.camera.pose, width, height);
  }

  /** [longitude, latitude] in radians at a position in CSS pixels from the viewer's corner, or null. */
  lonLatAt(x, y) {
    return windowToLonLat(this.lens(...this.surfaceSize), x, y);
  }

  get isFullscreen() {
    return document.fullscreenElement === this.root;
  }

  async toggleFullscreen() {
    try {
      await (this.isFullscreen ? document.exitFullscreen() : this.root.requestFullscreen?.());
    } catch (problem) {
      this.overlay.say(problem.message);
    }
  }

  /** Draw soon. Nothing is drawn while the page is hidden or the viewer is scrolled out of sight. */
  requestFrame() {
    if (this.frame || this.disposed || document.hidden || !this.onScreen) return;
    this.frame = requestAnimationFrame((now) => {
      this.frame = 0;
      const seconds = Math.min((now - (this.lastFrame ?? now - 16)) / 1000, 0.1);
      const moving = [this.camera, this.modes].map((one) => one.advance(seconds)).includes(true);
      this.lastFrame = moving ? now : undefined;
      this.drawNow();
      if (moving) this.requestFrame();
    });
  }

  drawNow() {
    if (!this.renderer || this.disposed) return;
    const mask = this.mask?.texture(this.renderer);
    for (const { lens, mode, opacity } of this.modes.layers()) {
      this.paint(lens, displayIn(mode, this.display), this.context, { opacity, mask });
    }
    this.overlay.showPose(this.pose, this.mode, this.modes.magnification);
    for (const after of this.drawn) after();
  }

  contextLost() {
    this.picture = null; // its texture went with the context
    this.overlay.showNotices([text("contextLost")]);
  }

  contextRestored() {
    this.overlay.showNotices([]);
    this.requestFrame();
    this.reload();
    this.restored?.();
  }

  reload() {
    if (!this.loaded) return;
    this.reloading = this.show(this.loaded.source, this.loaded.options); // also the outcome of a call that it overtakes
    this.reloading.catch((problem) => this.clear(problem.message, true));
  }

  dispose() {
    if (this.disposed) return;
    this.disposed = true;
    cancelAnimationFrame(this.frame);
    this.loading?.abort();
    this.listeners.abort();
    this.resizing.disconnect();
    this.watching.disconnect();
    this.renderer?.deleteTexture(this.picture);
    if (this.renderer) releaseRenderer(this);
    this.renderer = this.picture = this.loaded = null;
    this.canvas.width = this.canvas.height = 0; // frees its pixels at once
    this.root.replaceChildren();
    delete this.root.panoramaView;
  }
}

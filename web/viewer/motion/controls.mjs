/**
 * Hands on the view: mouse, touch, pen, wheel and keys, turned into movements of the camera.
 */

import { modeOfKey } from "../geometry/modes.mjs";
import { clamp, degrees } from "../geometry/projection.mjs";

const WHEEL_PIXELS = { 0: 1, 1: 16, 2: 400 }; // by WheelEvent.deltaMode: pixels, lines, pages
const ZOOM_PER_WHEEL_PIXEL = 0.0012;
const KEY_TURN_SHARE = 1 / 10; // of the field of view, per key press …
const MAX_KEY_TURN_DEG = 15; // … where that is not a leap
const TAP_MS = 300; // a finger that stays longer holds the picture …
const TAP_PIXELS = 16; // … and one that moves further drags it
const DOUBLE_TAP_MS = 400;
const REST_SECONDS = 0.09; // a hand that stood still this long before letting go does not throw

export const ZOOM_STEP = 0.8;

export class Controls {
  /**
   * @param {HTMLElement} surface receives pointers
   * @param {HTMLElement} root receives focus, keys and the wheel
   * @param {Camera} camera
   * @param {{moved: () => void, reset: () => void, fullscreen: () => void, setMode: (mode: string) => void,
   *     tool: (key: string) => ((event: KeyboardEvent) => void)|undefined, painting: () => boolean,
   *     turnBetween: (before: number[], after: number[]) => number[],
   *     lonLatAt: (x: number, y: number) => number[]|null,
   *     wheelIsOurs: (event: WheelEvent) => boolean}} host
   *     `turnBetween`: change of yaw and pitch, in degrees, for a hand that moves between two positions;
   *     `lonLatAt`: what is seen at a position, in radians
   */
  constructor(surface, root, camera, host) {
    Object.assign(this, { surface, root, camera, host });
    this.pointers = new Map();
    this.turnFactor = 1; // of what a drag turns; below 0 the view moves with the hand, not the picture
    this.pressed = this.tapped = null; // where and when a pointer went down, and the last tap was
    this.throwSpeed = { yaw: 0, pitch: 0, time: 0 };
    this.listeners = new AbortController();
    const on = (target, type, handler, options = {}) =>
      target.addEventListener(type, handler, { ...options, signal: this.listeners.signal });
    on(surface, "pointerdown", (event) => this.pointerDown(event));
    on(surface, "pointermove", (event) => this.pointerMove(event));
    on(surface, "pointerup", (event) => this.pointerUp(event));
    on(surface, "pointercancel", (event) => this.pointerUp(event));
    on(surface, "lostpointercapture", (event) => this.pointerUp(event));
    // Nodes 2.0 of older frontends would drag the node along; the middle button is the canvas's.
    on(root, "pointerdown", (event) => event.button === 1 || event.stopPropagation());
    on(root, "wheel", (event) => this.wheel(event), { passive: false });
    on(root, "keydown", (event) => this.keyDown(event));
  }

  dispose() {
    this.listeners.abort();
    this.pointers.clear();
  }

  pointerDown(event) {
    // The middle button pans ComfyUI's canvas; while the left one paints, the right one looks around.
    if (event.button !== (this.host.painting() ? 2 : 0)) return;
    this.root.focus({ preventScroll: true, focusVisible: false }); // the ring is for keys
    this.surface.setPointerCapture(event.pointerId);
    const here = { ...this.position(event), time: event.timeStamp };
    this.pressed = this.pointers.size === 0 ? here : null;
    this.pointers.set(event.pointerId, here);
    this.throwSpeed = { yaw: 0, pitch: 0, time: event.timeStamp };
    this.camera.drag(0, 0); // stops inertia
    this.root.classList.add("pd360-dragging");
    event.preventDefault();
  }

  /** Pointer position in the surface's own pixels, whatever zoom a canvas above applies to it. */
  position(event) {
    const box = this.surface.getBoundingClientRect();
    const scale = box.width ? this.surface.clientWidth / box.width : 1;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  pointerMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const here = { ...this.position(event), time: event.timeStamp };
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    this.pointers.set(event.pointerId, here);
    if (others.length > 0) {
      const distance = (point) => Math.max(Math.hypot(point.x - others[0].x, point.y - others[0].y), 10);
      this.camera.zoom(distance(before) / distance(here), true);
    }
    const fingers = others.length + 1; // two move the view by the movement of their middle
    const middle = { x: before.x + (here.x - before.x) / fingers, y: before.y + (here.y - before.y) / fingers };
    this.drag(before, middle, here.time);
    this.host.moved();
  }

  /** The picture follows the hand: dragging right turns left. */
  drag(before, after, time) {
    const [yaw, pitch] = this.host
      .turnBetween([before.x, before.y], [after.x, after.y])
      .map((angle) => angle * this.turnFactor);
    this.camera.drag(yaw, pitch);
    const seconds = Math.max((time - this.throwSpeed.time) / 1000, 0.004);
    const share = clamp(seconds / 0.05, 0.2, 1); // averaged over the last 50 ms or so
    this.throwSpeed = {
      yaw: this.throwSpeed.yaw * (1 - share) + (yaw / seconds) * share,
      pitch: this.throwSpeed.pitch * (1 - share) + (pitch / seconds) * share,
      time,
    };
  }

  pointerUp(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pointers.size > 0) {
      this.throwSpeed = { yaw: 0, pitch: 0, time: event.timeStamp }; // the end of a pinch throws nothing
      return;
    }
    this.root.classList.remove("pd360-dragging");
    const rested = (event.timeStamp - this.throwSpeed.time) / 1000 > REST_SECONDS;
    const { yaw, pitch } = this.throwSpeed;
    if (event.type === "pointerup" && !rested) this.camera.release(yaw, pitch);
    if (event.type === "pointerup") this.tap({ ...this.position(event), time: event.timeStamp });
    this.host.moved();
  }

  /** The second of two clicks or taps at the same place brings it to the middle. */
  tap(here) {
    const follows = (before, within) => before && here.time - before.time < within &&
      Math.hypot(here.x - before.x, here.y - before.y) < TAP_PIXELS;
    const again = follows(this.tapped, DOUBLE_TAP_MS);
    const tapped = follows(this.pressed, TAP_MS);
    this.tapped = tapped && !again ? here : null;
    const place = tapped && again && this.host.lonLatAt(here.x, here.y);
    if (place) this.camera.glideTo({ yawDeg: degrees(place[0]), pitchDeg: degrees(place[1]) });
  }

  wheel(event) {
    if (event.target.closest?.(".pd360-panel") || !this.host.wheelIsOurs(event)) return;
    event.preventDefault();
    event.stopPropagation();
    const pixels = clamp(event.deltaY * (WHEEL_PIXELS[event.deltaMode] ?? 1), -400, 400);
    const pinch = event.ctrlKey ? 6 : 1; // a pinch on a touchpad arrives as a wheel with small steps
    this.camera.zoom(Math.exp(pixels * ZOOM_PER_WHEEL_PIXEL * pinch));
    this.host.moved();
  }

  keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.(event.key === " " ? "input, select, button" : "input, select")) return; // their own keys
    const action = this.actionOf(event);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation(); // ComfyUI has shortcuts of its own for some of these keys
    action(event);
    this.host.moved();
  }

  actionOf({ key, code }) {
    const mode = modeOfKey(key);
    if (mode) return () => this.host.setMode(mode);
    const step = Math.min(this.camera.pose.fovDeg * KEY_TURN_SHARE, MAX_KEY_TURN_DEG);
    const actions = {
      arrowleft: () => this.camera.turn(-step, 0),
      arrowright: () => this.camera.turn(step, 0),
      arrowup: () => this.camera.turn(0, step),
      arrowdown: () => this.camera.turn(0, -step),
      "+": () => this.camera.zoom(ZOOM_STEP),
      "=": () => this.camera.zoom(ZOOM_STEP),
      "-": () => this.camera.zoom(1 / ZOOM_STEP),
      _: () => this.camera.zoom(1 / ZOOM_STEP),
      home: () => this.host.reset(),
      r: () => this.host.reset(),
      f: () => this.host.fullscreen(),
    };
    const tool = this.host.tool(key.toLowerCase());
    if (tool) return tool;
    if (Object.hasOwn(actions, key.toLowerCase())) return actions[key.toLowerCase()];
    // Some keyboards have digits only with the shift key; there the key's place counts.
    const byPlace = modeOfKey(code?.match(/^Digit(\d)$/)?.[1]);
    return byPlace ? () => this.host.setMode(byPlace) : null;
  }
}

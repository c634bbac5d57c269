/**
 * Hands on the view: mouse, touch, pen, wheel and keys, turned into movements of the camera.
 */

import { dragTurn } from "./dragging.mjs";
import { modeOfKey } from "../geometry/modes.mjs";
import { clamp, degrees, distance, mix } from "../geometry/projection.mjs";

const WHEEL_PIXELS = [1, 16, 400]; // by WheelEvent.deltaMode: pixels, lines, pages
const ZOOM_PER_WHEEL_PIXEL = 0.0012;
const KEY_TURN_SHARE = 1 / 10; // of the field of view, per key press …
const MAX_KEY_TURN_DEG = 15; // … where that is not a leap
const TAP_MS = 300; // a finger that stays longer holds the picture …
const TAP_PIXELS = 16; // … and one that moves further drags it
const DOUBLE_TAP_MS = 400;
const REST_MS = 90; // a hand that stood still this long before letting go does not throw

export class Controls {
  /** @param {PanoramaView} view whose canvas receives pointers, its root keys and the wheel */
  constructor(view) {
    const { canvas, root, camera } = view;
    Object.assign(this, { view, canvas, camera });
    this.pointers = new Map(); // {place, time} by id
    this.turnFactor = 1; // of what a drag turns; below 0 the view moves with the hand, not the picture
    canvas.addEventListener("pointerdown", (event) => this.pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(type, (event) => this.pointerUp(event));
    }
    const { signal } = view.listeners;
    // Nodes 2.0 of older frontends would drag the node along; the middle button is the canvas's.
    root.addEventListener("pointerdown", (event) => event.button === 1 || event.stopPropagation(), { signal });
    root.addEventListener("wheel", (event) => this.wheel(event), { signal, passive: false });
    root.addEventListener("keydown", (event) => this.keyDown(event), { signal });
    const [closer, away, reset] = [() => view.zoom(1), () => view.zoom(-1), () => view.reset()];
    view.setKeys({
      arrowleft: () => this.turn(-1, 0), arrowright: () => this.turn(1, 0),
      arrowup: () => this.turn(0, 1), arrowdown: () => this.turn(0, -1),
      "+": closer, "=": closer, "-": away, _: away,
      home: reset, r: reset,
      f: () => view.toggleFullscreen(),
    });
  }

  pointerDown(event) {
    // The middle button pans ComfyUI's canvas; while the left one paints, the right one looks around.
    if (event.button !== (this.view.painting ? 2 : 0)) return;
    this.view.focus();
    this.canvas.setPointerCapture(event.pointerId);
    const hand = this.hand(event);
    this.pressed = this.pointers.size === 0 ? hand : null; // a second finger is no tap
    this.pointers.set(event.pointerId, hand);
    this.hold(event);
    this.camera.drag(0, 0); // stops inertia
    event.preventDefault();
  }

  /** Pointer position in the canvas's own pixels, whatever zoom a canvas above applies to it. */
  position(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.clientWidth / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  hand(event) {
    return { place: this.position(event), time: event.timeStamp };
  }

  /** Nothing is thrown yet: {speed, time} of a drag. */
  hold({ timeStamp }) {
    this.thrown = { speed: [0, 0], time: timeStamp };
  }

  pointerMove(event) {
    const before = this.pointers.get(event.pointerId)?.place;
    if (!before) return;
    const hand = this.hand(event);
    this.pointers.set(event.pointerId, hand);
    const other = [...this.pointers.values()].find((one) => one !== hand);
    const apart = (place) => Math.max(distance(place, other.place), 10);
    if (other) this.camera.zoom(apart(before) / apart(hand.place), true);
    // Two fingers move the view by the movement of their middle.
    this.drag(before, mix(before, hand.place, 1 / this.pointers.size), hand.time);
    this.view.requestFrame();
  }

  /** The picture follows the hand: dragging right turns left. */
  drag(before, after, time) {
    const { view, camera, thrown } = this;
    const turn = dragTurn(view.mode, camera.pose, ...view.surfaceSize, before, after)
      .map((angle) => angle * this.turnFactor);
    camera.drag(...turn);
    const seconds = Math.max((time - thrown.time) / 1000, 0.004);
    const share = clamp(seconds / 0.05, 0.2, 1); // averaged over the last 50 ms or so
    this.thrown = { speed: mix(thrown.speed, turn.map((angle) => angle / seconds), share), time };
  }

  pointerUp(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.pointers.size > 0) return this.hold(event); // the end of a pinch throws nothing
    if (event.type === "pointerup") {
      const { speed, time } = this.thrown;
      if (event.timeStamp - time <= REST_MS) this.camera.release(...speed);
      this.tap(this.hand(event));
    }
    this.view.requestFrame();
  }

  /** The second of two clicks or taps at the same place brings it to the middle. */
  tap(here) {
    const follows = (before, within) =>
      before && here.time - before.time < within && distance(here.place, before.place) < TAP_PIXELS;
    const again = follows(this.tapped, DOUBLE_TAP_MS);
    const tapped = follows(this.pressed, TAP_MS);
    this.tapped = tapped && !again ? here : null;
    const place = tapped && again && this.view.lonLatAt(...here.place);
    if (place) this.camera.glideTo({ yawDeg: degrees(place[0]), pitchDeg: degrees(place[1]) });
  }

  wheel(event) {
    const { view } = this;
    const ours = !view.wheelNeedsFocus || view.isFullscreen || (!event.ctrlKey && view.root.matches(":focus-within"));
    if (!ours || event.target.closest(".pd360-panel")) return;
    event.preventDefault();
    event.stopPropagation();
    const pixels = clamp(event.deltaY * WHEEL_PIXELS[event.deltaMode], -400, 400);
    const pinch = event.ctrlKey ? 6 : 1; // a pinch on a touchpad arrives as a wheel with small steps
    this.camera.zoom(Math.exp(pixels * ZOOM_PER_WHEEL_PIXEL * pinch));
    view.requestFrame();
  }

  /** Turn by key presses. */
  turn(right, up) {
    const step = Math.min(this.camera.pose.fovDeg * KEY_TURN_SHARE, MAX_KEY_TURN_DEG);
    this.camera.turn(right * step, up * step);
  }

  keyDown(event) {
    const { view } = this;
    const { key, code, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches(key === " " ? "input, select, button" : "input, select")) return; // their own keys
    // Some keyboards have digits only with the shift key; there the key's place counts.
    const mode = modeOfKey(key) ?? modeOfKey(code.replace(/^Digit/, ""));
    const action = view.keys.get(key.toLowerCase()) ?? (mode && (() => view.setMode(mode)));
    if (!action) return;
    event.preventDefault();
    event.stopPropagation(); // ComfyUI has shortcuts of its own for some of these keys
    action(event);
    view.requestFrame();
  }
}

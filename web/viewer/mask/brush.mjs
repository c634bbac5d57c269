/** A brush in the hand: pointers become strokes, and a ring shows where the brush lies on the sphere. */

import { directionToWindow, windowToDirection } from "../geometry/lens.mjs";
import { clamp, cross, degrees, distance, dot, lonLatToDirection, normalise, radians } from "../geometry/projection.mjs";
import { element } from "../panel/elements.mjs";

export const RADIUS_RANGE_DEG = [0.25, 64];
const LEAST_STEP_PX = 1.5; // nearer points say nothing that is seen
const OPPOSITE = -0.9999; // cosine beyond which two points have no shortest way between them
const RING_POINTS = 96;

const rounded = (angle) => Math.round(angle * 1000) / 1000;

/** Directions around `centre` (of length 1), `angle` radians away from it; the last is the first. */
export function ringAround(centre, angle) {
  const [x, y, z] = centre;
  const side = normalise(Math.abs(y) < 0.9 ? [z, 0, -x] : [0, -z, y]);
  const other = cross(centre, side);
  return Array.from({ length: RING_POINTS + 1 }, (_, index) => {
    const turn = (2 * Math.PI * index) / RING_POINTS;
    const away = side.map((value, axis) => value * Math.cos(turn) + other[axis] * Math.sin(turn));
    return centre.map((value, axis) => value * Math.cos(angle) + away[axis] * Math.sin(angle));
  });
}

export class Brush {
  /**
   * @param {PanoramaView} view
   * @param {{growing: (stroke, first: number) => void, finished: (stroke) => void}} host
   */
  constructor(view, host) {
    Object.assign(this, { view, host });
    this.settings = { erases: false, radiusDeg: 4, softness: 0 };
    this.ring = element("canvas", "pd360-brush-ring", { "aria-hidden": true });
    view.canvas.after(this.ring);
    const on = (type, handler) => view.canvas.addEventListener(type, (event) => this.on && handler(event));
    on("pointerdown", (event) => this.start(event));
    on("pointermove", (event) => this.move(event));
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) on(type, (event) => this.end(event));
    on("pointerleave", () => this.moveRing(null));
    on("contextmenu", (event) => event.preventDefault()); // the right button looks around
  }

  set(changes) {
    Object.assign(this.settings, changes);
    this.settings.radiusDeg = clamp(this.settings.radiusDeg, ...RADIUS_RANGE_DEG);
    this.drawRing();
  }

  turn(on) {
    this.finish();
    this.on = on;
    this.drawRing();
  }

  start(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.view.focus();
    this.begin(this.view.controls.position(event), this.settings.erases !== event.shiftKey);
    if (!this.stroke) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    event.preventDefault();
  }

  begin(place, erases) {
    const point = this.pointAt(place);
    if (!point) return;
    const { radiusDeg, softness } = this.settings;
    const mode = erases ? "erase" : "paint";
    this.stroke = { mode, radius_deg: rounded(radiusDeg), softness, points: [point] };
    this.last = place;
    this.host.growing(this.stroke, 0);
  }

  /** A dot in the middle of the window: painting without a pointer. */
  dab() {
    this.moveRing(this.view.middle);
    this.begin(this.place, this.settings.erases);
    this.finish();
  }

  move(event) {
    const place = this.view.controls.position(event);
    this.moveRing(place);
    if (this.stroke && event.pointerId === this.pointer) this.reach(place, LEAST_STEP_PX);
  }

  reach(place, leastStep) {
    const { points } = this.stroke;
    const far = distance(place, this.last) >= leastStep;
    const point = far && this.pointAt(place);
    if (!point) return;
    const [one, other] = [points.at(-1), point].map((angles) => lonLatToDirection(...angles.map(radians)));
    if (dot(one, other) < OPPOSITE) return;
    points.push(point);
    this.last = place;
    this.host.growing(this.stroke, points.length - 2);
  }

  end(event) {
    if (!this.stroke || event.pointerId !== this.pointer) return;
    if (event.type === "pointerup") this.reach(this.view.controls.position(event), 0.01);
    this.finish();
  }

  finish() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke) this.host.finished(stroke);
  }

  pointAt(place) {
    return this.view.lonLatAt(...place)?.map((angle) => rounded(degrees(angle)));
  }

  moveRing(place) {
    this.place = place;
    this.drawRing();
  }

  drawRing() {
    const { width, height, clientWidth } = this.view.canvas;
    Object.assign(this.ring, { width, height }); // empties it
    if (!this.on || !this.place) return;
    const lens = this.view.lens(width, height);
    const scale = width / clientWidth;
    const centre = windowToDirection(lens, ...this.place.map((value) => value * scale));
    if (!centre) return;
    const { radiusDeg, softness, erases } = this.settings;
    this.trace(lens, scale, ringAround(centre, radians(radiusDeg)), erases ? [6, 4] : []);
    if (softness > 0) this.trace(lens, scale, ringAround(centre, radians(radiusDeg * (1 - softness))), [1, 3]);
  }

  /** A dark line under a light one, seen on any picture. It breaks where the lens tears the sphere apart. */
  trace(lens, scale, directions, dashes) {
    const context = this.ring.getContext("2d");
    context.beginPath();
    let before = null;
    for (const direction of directions) {
      const here = directionToWindow(lens, direction);
      if (here) context[before && distance(here, before) < lens.width / 4 ? "lineTo" : "moveTo"](...here);
      before = here;
    }
    for (const [strokeStyle, width, pattern] of [["rgb(0 0 0 / 60%)", 3, []], ["#fff", 1.3, dashes]]) {
      Object.assign(context, { strokeStyle, lineWidth: width * scale });
      context.setLineDash(pattern.map((length) => length * scale));
      context.stroke();
    }
  }
}

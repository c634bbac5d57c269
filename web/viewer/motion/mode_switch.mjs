/**
 * Which mode the viewer is in, where each mode looked last, and the way from one to the next. No DOM here.
 *
 * Between modes of one family (perspective, Pannini, little planet …) the lens itself changes by degrees;
 * between others the new view is faded in over the old one.
 */

import { blendLenses, canBlend, createLens } from "../geometry/lens.mjs";
import { MODES, homePose, limitsOf } from "../geometry/modes.mjs";

const BLEND_SECONDS = 0.6;
const FADE_SECONDS = 0.25;
const PLANES = ["flat", "cubemap"]; // places where the picture starts as it is

const placeOf = (mode) => MODES[mode].place ?? mode;

export class ModeSwitch {
  /** @param {Camera} camera takes over each mode's pose and limits; where it prefers still, modes change at once */
  constructor(camera) {
    Object.assign(this, { camera, mode: "perspective", size: [1, 1] });
    this.places = new Map(); // where the modes of a place looked last
    this.fovs = new Map(); // by mode, where it is not the one at home, which the window decides
    // 0 … 1, of the way from `before`, the mode and pose that are being left.
    this.progress = 1;
  }

  get home() {
    return homePose(this.mode, ...this.size);
  }

  /** Of modes that show a whole picture at home: how much closer it is, 1 being whole. Null for the others. */
  get magnification() {
    const { camera, home } = this;
    return home.fovDeg === camera.limits.fov[1] ? home.fovDeg / camera.pose.fovDeg : null;
  }

  setWindow(...size) {
    const { camera } = this;
    const whole = camera.goal.fovDeg === camera.limits.fov[1];
    this.size = size;
    camera.setLimits(limitsOf(this.mode, ...size));
    // A picture that was seen as a whole is seen as a whole in the new window.
    if (whole && this.magnification) camera.jumpTo({ fovDeg: this.home.fovDeg });
  }

  /** Go to a mode, to where it looked last. Returns whether anything changes. */
  enter(mode, { atOnce = false } = {}) {
    if (!Object.hasOwn(MODES, mode)) throw new Error(`There is no view mode “${mode}”.`);
    if (mode === this.mode) return false;
    const { camera, places, fovs } = this;
    const before = { mode: this.mode, pose: { ...camera.pose } };
    places.set(placeOf(before.mode), before.pose);
    fovs.set(before.mode, before.pose.fovDeg === this.home.fovDeg ? undefined : before.pose.fovDeg);
    Object.assign(this, { mode, before, progress: atOnce || camera.prefersStill() ? 1 : 0 });
    const { home } = this;
    // Looking up, down or at a planet for the first time keeps the yaw.
    const keepsYaw = !PLANES.includes(placeOf(mode)) && MODES[before.mode].yawDeg === undefined;
    const first = keepsYaw ? { ...home, yawDeg: before.pose.yawDeg } : home;
    camera.setLimits(limitsOf(mode, ...this.size));
    camera.jumpTo({ ...(places.get(placeOf(mode)) ?? first), fovDeg: fovs.get(mode) ?? home.fovDeg });
    return true;
  }

  /** Move on by `seconds`. Returns whether there is more to come. */
  advance(seconds) {
    if (this.progress >= 1) return false;
    const duration = canBlend(...this.ends()) ? BLEND_SECONDS : FADE_SECONDS;
    this.progress = Math.min(1, this.progress + seconds / duration);
    return this.progress < 1;
  }

  ends() {
    const { before, camera, mode, size } = this;
    return [createLens(before.mode, before.pose, ...size), createLens(mode, camera.pose, ...size)];
  }

  /** What to draw now, in this order: [{lens, mode, opacity}]. */
  layers() {
    const { mode, camera, size, progress } = this;
    if (progress >= 1) return [{ lens: createLens(mode, camera.pose, ...size), mode, opacity: 1 }];
    const share = progress * progress * (3 - 2 * progress); // starts and ends gently
    const [from, to] = this.ends();
    if (canBlend(from, to)) return [{ lens: blendLenses(from, to, share), mode, opacity: 1 }];
    return [
      { lens: from, mode: this.before.mode, opacity: 1 },
      { lens: to, mode, opacity: share },
    ];
  }
}

/**
 * Where the viewer looks, and how it gets there: easing towards a goal and inertia after a drag. No DOM here.
 */

import { limitsOf } from "../geometry/modes.mjs";
import { clamp, wrapDegrees } from "../geometry/projection.mjs";

export const HOME = Object.freeze({ yawDeg: 0, pitchDeg: 0, rollDeg: 0, fovDeg: 90 });

const EASE_SECONDS = 0.08; // time constant of the way to a goal
const GLIDE_SECONDS = 0.28; // time constant of inertia
const STOP_SPEED = 1.5; // degrees per second; slower than this is standing still

export class Camera {
  /** @param {() => boolean} prefersStill the person asked for reduced motion: then nothing glides */
  constructor(prefersStill = () => false) {
    this.prefersStill = prefersStill;
    this.pose = { ...HOME };
    this.goal = { ...HOME };
    this.speed = { yaw: 0, pitch: 0 };
    this.limits = limitsOf("perspective", 1, 1);
  }

  /** The pose with yaw in −180 … 180: what is shown, handed out and compared. */
  get current() {
    return { ...this.pose, yawDeg: wrapDegrees(this.pose.yawDeg) };
  }

  /** What a mode and a window allow, from `limitsOf`; the pose moves inside it at once. */
  setLimits(limits) {
    this.limits = limits;
    this.setGoal({});
    Object.assign(this.pose, this.allowed(this.pose));
  }

  /** A pose within the limits. */
  allowed(pose) {
    const { yaw, pitch, fov } = this.limits;
    const fovDeg = clamp(pose.fovDeg, ...fov);
    return { ...pose, yawDeg: yaw ?? pose.yawDeg, pitchDeg: clamp(pose.pitchDeg, ...pitch(fovDeg)), fovDeg };
  }

  /** Look somewhere at once; members left out stay. */
  jumpTo(pose) {
    this.speed = { yaw: 0, pitch: 0 };
    this.setGoal({ ...this.pose, ...pose });
    this.pose = { ...this.goal };
  }

  /** Look somewhere, gliding there the short way around; members left out stay. */
  glideTo(pose) {
    this.speed = { yaw: 0, pitch: 0 };
    const target = { ...pose };
    if (pose.yawDeg !== undefined) {
      target.yawDeg = this.pose.yawDeg + wrapDegrees(pose.yawDeg - this.pose.yawDeg);
    }
    this.setGoal(target);
    if (this.prefersStill()) this.pose = { ...this.goal };
  }

  /** Turn with a hand on the picture: at once, no easing. */
  drag(yawDeg, pitchDeg) {
    this.speed = { yaw: 0, pitch: 0 };
    this.setGoal({ yawDeg: this.pose.yawDeg + yawDeg, pitchDeg: this.pose.pitchDeg + pitchDeg });
    this.pose.yawDeg = this.goal.yawDeg;
    this.pose.pitchDeg = this.goal.pitchDeg;
  }

  /** The hand lets go at this speed, in degrees per second. */
  release(yawSpeed, pitchSpeed) {
    if (!this.prefersStill()) this.speed = { yaw: yawSpeed, pitch: pitchSpeed };
  }

  /** Turn by a step, from where the last step was going. */
  turn(yawDeg, pitchDeg) {
    this.speed = { yaw: 0, pitch: 0 };
    this.setGoal({ yawDeg: this.goal.yawDeg + yawDeg, pitchDeg: this.goal.pitchDeg + pitchDeg });
    if (this.prefersStill()) this.pose = { ...this.goal };
  }

  /** Multiply the field of view: below 1 is closer. */
  zoom(factor, immediate = false) {
    this.setGoal({ fovDeg: this.goal.fovDeg * factor });
    if (immediate || this.prefersStill()) this.pose.fovDeg = this.goal.fovDeg;
  }

  setGoal(pose) {
    this.goal = this.allowed({ ...this.goal, ...pose });
  }

  /** Move on by `seconds`. Returns whether there is more to come. */
  advance(seconds) {
    this.coast(seconds);
    const share = 1 - Math.exp(-seconds / EASE_SECONDS);
    let moving = this.speed.yaw !== 0 || this.speed.pitch !== 0;
    for (const key of Object.keys(this.pose)) {
      const rest = this.goal[key] - this.pose[key];
      if (Math.abs(rest) < 0.01) {
        this.pose[key] = this.goal[key];
      } else {
        this.pose[key] += rest * share;
        moving = true;
      }
    }
    return moving;
  }

  /** Inertia moves pose and goal together, so that easing has nothing to add. */
  coast(seconds) {
    const { speed } = this;
    if (speed.yaw === 0 && speed.pitch === 0) return;
    const travel = GLIDE_SECONDS * (1 - Math.exp(-seconds / GLIDE_SECONDS));
    this.setGoal({
      yawDeg: this.pose.yawDeg + speed.yaw * travel,
      pitchDeg: this.pose.pitchDeg + speed.pitch * travel,
    });
    this.pose.yawDeg = this.goal.yawDeg;
    this.pose.pitchDeg = this.goal.pitchDeg;
    const left = Math.exp(-seconds / GLIDE_SECONDS);
    const still = Math.hypot(speed.yaw, speed.pitch) * left < STOP_SPEED;
    this.speed = still ? { yaw: 0, pitch: 0 } : { yaw: speed.yaw * left, pitch: speed.pitch * left };
  }
}

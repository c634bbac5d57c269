/**
 * Where the viewer looks, and how it gets there: easing towards a goal and inertia after a drag. No DOM here.
 */

import { homePose, limitsOf } from "../geometry/modes.mjs";
import { clamp, wrapDegrees } from "../geometry/projection.mjs";

const EASE_SECONDS = 0.08; // time constant of the way to a goal
const GLIDE_SECONDS = 0.28; // time constant of inertia
const STOP_SPEED = 1.5; // degrees per second; slower than this is standing still

export class Camera {
  /** @param {() => boolean} prefersStill the person asked for reduced motion: then nothing glides */
  constructor(prefersStill = () => false) {
    this.prefersStill = prefersStill;
    this.pose = homePose("perspective", 1, 1);
    this.goal = { ...this.pose };
    this.speed = [0, 0]; // of yaw and pitch, in degrees per second
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
    this.goTo({ ...this.pose, ...pose }, true);
  }

  /** Look somewhere, gliding there the short way around; members left out stay. */
  glideTo(pose) {
    const { yawDeg } = { ...this.goal, ...pose };
    this.goTo({ ...pose, yawDeg: this.pose.yawDeg + wrapDegrees(yawDeg - this.pose.yawDeg) });
  }

  /** Turn by a step, from where the last step was going. */
  turn(yawDeg, pitchDeg) {
    this.goTo({ yawDeg: this.goal.yawDeg + yawDeg, pitchDeg: this.goal.pitchDeg + pitchDeg });
  }

  goTo(pose, atOnce = this.prefersStill()) {
    this.speed = [0, 0];
    this.setGoal(pose);
    if (atOnce) this.pose = { ...this.goal };
  }

  /** Multiply the field of view: below 1 is closer. */
  zoom(factor, atOnce = this.prefersStill()) {
    this.setGoal({ fovDeg: this.goal.fovDeg * factor });
    if (atOnce) this.pose.fovDeg = this.goal.fovDeg;
  }

  setGoal(pose) {
    this.goal = this.allowed({ ...this.goal, ...pose });
  }

  /** Turn with a hand on the picture: at once, no easing. */
  drag(yawDeg, pitchDeg) {
    this.speed = [0, 0];
    this.shift(yawDeg, pitchDeg);
  }

  /** The hand lets go at this speed. */
  release(...speed) {
    if (!this.prefersStill()) this.speed = speed;
  }

  /** Pose and goal turn together, so that easing has nothing to add. */
  shift(yaw, pitch) {
    this.setGoal({ yawDeg: this.pose.yawDeg + yaw, pitchDeg: this.pose.pitchDeg + pitch });
    const { yawDeg, pitchDeg } = this.goal;
    Object.assign(this.pose, { yawDeg, pitchDeg });
  }

  /** Move on by `seconds`. Returns whether there is more to come. */
  advance(seconds) {
    const coasts = this.coast(seconds);
    const rests = Object.keys(this.pose).filter((key) => Math.abs(this.goal[key] - this.pose[key]) >= 0.01);
    const share = 1 - Math.exp(-seconds / EASE_SECONDS);
    for (const key of rests) this.pose[key] += (this.goal[key] - this.pose[key]) * share;
    if (rests.length === 0) this.pose = { ...this.goal };
    return coasts || rests.length > 0;
  }

  /** Inertia. Returns whether there is more to come. */
  coast(seconds) {
    const speed = Math.hypot(...this.speed);
    if (speed === 0) return false;
    const left = Math.exp(-seconds / GLIDE_SECONDS);
    this.shift(...this.speed.map((angle) => angle * GLIDE_SECONDS * (1 - left)));
    this.speed = this.speed.map((angle) => (speed * left < STOP_SPEED ? 0 : angle * left));
    return speed * left >= STOP_SPEED;
  }
}

/** The view follows the device in the hand: readings of its orientation become poses. */

import { clamp, cross, degrees, directionToLonLat, dot, mix, normalise, radians } from "../geometry/projection.mjs";
import { text } from "../texts/text.mjs";

// Time constant of the way to a reading: hides the sensors' noise.
const EASE_SECONDS = 0.05;
const STILL = 1 - 1e-10; // cosine of an angle that nobody sees


/**
 * Where the back of a device looks and where the top of its screen is, as world directions {forward, up}. North of
 * the sensors is forward.
 * @param {{alpha, beta, gamma}} reading of a DeviceOrientationEvent, in degrees
 * @param {number} screenDeg how far the page is turned on the device: screen.orientation.angle
 */
export function frameOf({ alpha, beta, gamma }, screenDeg) {
  const angles = [alpha, beta, gamma, screenDeg].map(radians);
  const [[cz, cx, cy, cs], [sz, sx, sy, ss]] = [angles.map(Math.cos), angles.map(Math.sin)];
  const right = [cz * cy - sz * sx * sy, -cx * sy, sz * cy + cz * sx * sy]; // of the device, held upright
  const top = [-sz * cx, sx, cz * cx];
  const up = right.map((value, axis) => ss * value + cs * top[axis]);
  return { forward: [-cz * sy - sz * sx * cy, -cx * cy, cz * sx * cy - sz * sy], up };
}

/** Yaw, pitch and roll, in degrees, of a camera that looks `forward` with `up` above. */
export function poseOf({ forward: f, up }) {
  const right = cross(up, f);
  const level = cross(f, right); // up, square to where it looks
  const [lon, lat] = directionToLonLat(f);
  // Straight up or down, yaw and roll are one turn.
  const [yaw, roll] = Math.hypot(f[0], f[2]) > 1e-6
    ? [lon, Math.atan2(-right[1], level[1])]
    : [Math.atan2(-right[2], right[0]), 0];
  return { yawDeg: degrees(yaw), pitchDeg: degrees(lat), rollDeg: degrees(roll) };
}

export class Gyroscope {
  /** Gives `view` a button once the device turns out to have sensors. */
  constructor(view) {
    this.view = view;
    this.hear = (event) => this.read(event);
    this.listen(true);
    // Phones of Apple tell nothing before they were asked, and that takes a tap.
    const handheld = window.matchMedia("(hover: none) and (pointer: coarse)").matches;
    if (handheld && window.DeviceOrientationEvent?.requestPermission) this.offer();
  }

  listen(on) {
    const { signal } = this.view.listeners;
    if (on) window.addEventListener("deviceorientation", this.hear, { signal });
    else window.removeEventListener("deviceorientation", this.hear);
  }

  offer() {
    this.listen(false); // sensors take power
    this.button = this.view.overlay.addTool("gyroscope", "g", () => this.toggle(), { "aria-pressed": false });
  }

  async toggle() {
    const ask = () => window.DeviceOrientationEvent.requestPermission?.().catch(() => "denied");
    if (!this.on && (await ask()) === "denied") this.view.overlay.say(text("gyroscopeDenied"));
    else this.turn(!this.on);
  }

  turn(on) {
    const { view, button } = this;
    Object.assign(this, { on, seen: null, ahead: null });
    this.listen(on);
    button.setAttribute("aria-pressed", on);
    if (on) return;
    view.camera.glideTo({ rollDeg: 0 });
    view.requestFrame();
  }

  read(event) {
    if (event.beta === null) return; // no sensors: some browsers say so once
    if (!this.button) return this.offer();
    this.goal = frameOf(event, screen.orientation.angle);
    this.seen ??= this.goal;
    this.frame ||= requestAnimationFrame((now) => this.follow(now, now - 16));
  }

  /** One step of the way to the last reading. */
  follow(now, before) {
    this.frame = 0;
    const { view, seen, goal } = this;
    if (!this.on || view.disposed) return;
    const near = (share) => dot(seen.forward, goal.forward) > share && dot(seen.up, goal.up) > share;
    const arrived = !near(0) || near(STILL); // or too far for a way between
    const share = 1 - Math.exp(-clamp((now - before) / 1000, 0, 0.1) / EASE_SECONDS);
    const between = (name) => normalise(mix(seen[name], goal[name], share));
    this.seen = arrived ? goal : { forward: between("forward"), up: between("up") };
    if (view.onScreen) this.show(poseOf(this.seen));
    if (!arrived) this.frame = requestAnimationFrame((later) => this.follow(later, now));
  }

  /** The view starts where it is, and hands and keys go on turning it about. */
  show(pose) {
    const { camera } = this.view;
    this.turned = this.ahead === null
      ? camera.goal.yawDeg - pose.yawDeg
      : this.turned + camera.goal.yawDeg - this.ahead;
    this.view.lookAt({ ...pose, yawDeg: pose.yawDeg + this.turned, fovDeg: camera.goal.fovDeg });
    this.ahead = camera.goal.yawDeg;
  }
}

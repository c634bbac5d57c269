/** Turning the view so that what a hand holds stays under it, in every mode. Pure functions. */

import { createLens, directionToWindow, pixelSize, windowToDirection } from "../geometry/lens.mjs";
import { degrees, distance, dot } from "../geometry/projection.mjs";

// Of Newton's method; a hand moves little between two events.
const ROUNDS = 3;
const SMALL = 1 / 16; // pixels, to see how the window answers
const DAMPING = 0.15; // of the turn that the middle of the window would need: bounds turns next to a pole

/**
 * How yaw and pitch change, in degrees, when the hand moves from the window position `before` to `after`.
 *
 * What it holds follows it exactly where yaw and pitch can do that, and as well as they can elsewhere: least
 * squares, damped, so that nothing spins wildly close to a pole. Outside of the picture the hand turns as much
 * as it would in the middle of the window.
 */
export function dragTurn(mode, pose, width, height, before, after) {
  const lensAfter = (yaw, pitch) =>
    createLens(mode, { ...pose, yawDeg: pose.yawDeg + yaw, pitchDeg: pose.pitchDeg + pitch }, width, height);
  const lens = lensAfter(0, 0);
  const scale = degrees(pixelSize(lens));
  const held = windowToDirection(lens, ...before);
  if (!held) return [(before[0] - after[0]) * scale, (after[1] - before[1]) * scale];
  let [yaw, pitch] = [0, 0];
  for (let round = 0; round < ROUNDS; round += 1) {
    const positionAfter = (right, up) => directionToWindow(lensAfter(yaw + right, pitch + up), held);
    const step = correction(positionAfter, after, scale, 2 * distance(before, after));
    if (!step) break;
    [yaw, pitch] = [yaw + step[0], pitch + step[1]];
  }
  return [yaw, pitch];
}

/**
 * One step of damped least squares towards a turn after which what is held is at `target`. Null where it is farther
 * from there than `most`: it went over a border of a flat picture or a cube's face, and no turn brings it along.
 */
function correction(positionAfter, target, scale, most) {
  const small = scale * SMALL;
  const [now, byYaw, byPitch] = [positionAfter(0, 0), positionAfter(small, 0), positionAfter(0, small)];
  if (!now || !byYaw || !byPitch || distance(now, target) > most) return null;
  const moved = (place, turn) => [(place[0] - now[0]) / turn, (place[1] - now[1]) / turn, 0];
  // Pixels per pixel-sized turn: about 1 in the middle of the window.
  const [yaw, pitch, rest] = [moved(byYaw, SMALL), moved(byPitch, SMALL), moved(target, 1)];
  const [a, b, c] = [dot(yaw, yaw) + DAMPING ** 2, dot(yaw, pitch), dot(pitch, pitch) + DAMPING ** 2];
  const [p, q] = [dot(yaw, rest), dot(pitch, rest)];
  return [c * p - b * q, a * q - b * p].map((turn) => (turn * scale) / (a * c - b * b));
}

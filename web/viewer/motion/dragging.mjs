/** Turning the view so that what a hand holds stays under it, in every mode. Pure functions. */

import { createLens, directionToWindow, pixelSize, windowToDirection } from "../geometry/lens.mjs";
import { degrees } from "../geometry/projection.mjs";

// Of Newton's method; a hand moves little between two events.
const ROUNDS = 3;
const DAMPING = 0.15; // of the turn that the middle of the window would need: bounds turns next to a pole

/**
 * How yaw and pitch change, in degrees, when the hand moves from the window position `before` to `after`.
 *
 * What it holds follows it exactly where yaw and pitch can do that, and as well as they can elsewhere: least
 * squares, damped, so that nothing spins wildly close to a pole. Outside of the picture the hand turns as much
 * as it would in the middle of the window.
 */
export function dragTurn(mode, pose, width, height, before, after) {
  const lensFor = (turned) => createLens(mode, turned, width, height);
  const lens = lensFor(pose);
  const scale = degrees(pixelSize(lens));
  const held = windowToDirection(lens, ...before);
  if (!held) return [(before[0] - after[0]) * scale, (after[1] - before[1]) * scale];
  const turned = { ...pose };
  for (let round = 0; round < ROUNDS; round += 1) {
    const positionAfter = (right, up) =>
      directionToWindow(lensFor({ ...turned, yawDeg: turned.yawDeg + right, pitchDeg: turned.pitchDeg + up }), held);
    const step = correction(positionAfter, after, scale);
    if (!step) break;
    turned.yawDeg += step[0];
    turned.pitchDeg += step[1];
  }
  return [turned.yawDeg - pose.yawDeg, turned.pitchDeg - pose.pitchDeg];
}

/** One step of damped least squares towards a turn after which what is held is at `target`. */
function correction(positionAfter, target, scale) {
  const small = scale / 16;
  const [now, byYaw, byPitch] = [positionAfter(0, 0), positionAfter(small, 0), positionAfter(0, small)];
  if (!now || !byYaw || !byPitch) return null;
  const between = (one, other) => [other[0] - one[0], other[1] - one[1]];
  // Pixels per pixel-sized turn: about 1 in the middle of the window.
  const [yaw, pitch] = [byYaw, byPitch].map((moved) => between(now, moved).map((pixels) => pixels * 16));
  const rest = between(now, target);
  const dot = (one, other) => one[0] * other[0] + one[1] * other[1];
  const [a, b, c] = [dot(yaw, yaw) + DAMPING ** 2, dot(yaw, pitch), dot(pitch, pitch) + DAMPING ** 2];
  const [p, q] = [dot(yaw, rest), dot(pitch, rest)];
  const determinant = a * c - b * b;
  return [((c * p - b * q) / determinant) * scale, ((a * q - b * p) / determinant) * scale];
}

/** Turning the view so that what a hand holds stays under it, in every mode. Pure functions. */

import { createLens, degreesPerPixel, directionToWindow, windowToDirection } from "../geometry/lens.mjs";
import { MODES } from "../geometry/modes.mjs";

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
  const lens = createLens(mode, pose, width, height);
  const scale = degreesPerPixel(lens);
  const held = windowToDirection(lens, ...before);
  if (!held) return [(before[0] - after[0]) * scale, (after[1] - before[1]) * scale];
  const turned = { ...pose };
  for (let round = 0; round < ROUNDS; round += 1) {
    const step = correction(mode, turned, width, height, held, after, scale);
    if (!step) break;
    turned.yawDeg += step[0];
    turned.pitchDeg += step[1];
  }
  return [turned.yawDeg - pose.yawDeg, turned.pitchDeg - pose.pitchDeg];
}

/** One step of damped least squares towards a pose that shows the direction `held` at `target`. */
function correction(mode, pose, width, height, held, target, scale) {
  const position = (change) =>
    directionToWindow(createLens(mode, { ...pose, ...change }, width, height), held);
  const now = position({});
  const small = scale / 16;
  const { yawDeg: fixedYaw, pitchDeg: fixedPitch } = MODES[mode];
  const byYaw = fixedYaw === undefined ? position({ yawDeg: pose.yawDeg + small }) : now;
  const byPitch = fixedPitch === undefined ? position({ pitchDeg: pose.pitchDeg + small }) : now;
  if (!now || !byYaw || !byPitch) return null;
  // Pixels per pixel-sized turn: about 1 in the middle of the window.
  const yaw = [(byYaw[0] - now[0]) * 16, (byYaw[1] - now[1]) * 16];
  const pitch = [(byPitch[0] - now[0]) * 16, (byPitch[1] - now[1]) * 16];
  const rest = [target[0] - now[0], target[1] - now[1]];
  const dot = (one, other) => one[0] * other[0] + one[1] * other[1];
  const [a, b, c] = [dot(yaw, yaw) + DAMPING ** 2, dot(yaw, pitch), dot(pitch, pitch) + DAMPING ** 2];
  const [p, q] = [dot(yaw, rest), dot(pitch, rest)];
  const determinant = a * c - b * b;
  return [((c * p - b * q) / determinant) * scale, ((a * q - b * p) / determinant) * scale];
}

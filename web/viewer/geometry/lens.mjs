/**
 * From window to sphere and back, in every mode: pure functions, the same formulas as the shader and as
 * panodiff_core.geometry.views, where their sources are named.
 *
 * A *lens* is a mode with a pose and a window, reduced to what the formulas need. Window positions are pixels
 * from the top left corner; the centre of pixel (column j, row i) is (j + ½, i + ½). On the lens's plane x goes
 * right and y up.
 */

import { CELLS, layoutCentre, layoutPoint, layoutRay } from "./cube_layouts.mjs";
import { MODES } from "./modes.mjs";
import {
  cameraRotation, clamp, degrees, directionToLonLat, lonLatToDirection, mix, normalise, radians, rotate,
  rotateBack, wrapDegrees,
} from "./projection.mjs";

/** Rectilinear, Pannini and stereographic: the ray of (x, y) is (x, y, 1 − (a x² + b y²) / 4). */
const BENDS = { rectilinear: [0, 0], pannini: [1, 0], stereographic: [1, 1] };

/** What the shader calls the projections; 0 is the family of bends. */
export const KINDS = { fisheye: 1, equirectangular: 2, cubemap_cross: 3, cubemap_3x2: 4 };

/** Half the width of the plane that a window with this horizontal field of view shows. */
function reachOf(projection, fovDeg) {
  if (CELLS[projection]) return fovDeg / 90;
  const half = radians(fovDeg) / 2;
  const bend = BENDS[projection];
  if (!bend) return half;
  const [x, z] = [Math.sin(half), Math.cos(half)];
  return (2 * x) / (z + Math.sqrt(z * z + bend[0] * x * x));
}

/**
 * @param {string} mode one of MODES
 * @param {{yawDeg, pitchDeg, rollDeg, fovDeg}} pose angles that the mode fixes are not read
 * @param {number} width of the window, in any unit; positions are then in the same
 */
export function createLens(mode, pose, width, height) {
  const { projection, yawDeg, pitchDeg, rollDeg, fovDeg } = { ...pose, ...MODES[mode] };
  const flat = projection === "equirectangular";
  const angles = [yawDeg, pitchDeg, rollDeg];
  const [, pitch, roll] = angles.map(radians);
  return {
    projection, width, height, angles,
    kind: KINDS[projection] ?? 0,
    bend: BENDS[projection] ?? [0, 0],
    reach: reachOf(projection, fovDeg),
    // A flat picture is turned and moved in its plane; only there does the plane know the pose.
    rotation: flat ? cameraRotation(0, 0, 0) : cameraRotation(...angles),
    turn: flat ? [Math.cos(roll), Math.sin(roll)] : [1, 0],
    centre: flat
      ? [radians(wrapDegrees(yawDeg)), pitch]
      : CELLS[projection] ? layoutCentre(projection, fovDeg, width, height) : [0, 0],
  };
}

/** Whether one lens can become the other by degrees. */
export function canBlend(from, to) {
  return from.kind === 0 && to.kind === 0;
}

/** The lens a share (0 … 1) of the way between two that `canBlend`; the window is the second one's. */
export function blendLenses(from, to, share) {
  const angles = from.angles.map((angle, axis) => angle + wrapDegrees(to.angles[axis] - angle) * share);
  return {
    ...to,
    angles,
    bend: mix(from.bend, to.bend, share),
    reach: from.reach ** (1 - share) * to.reach ** share,
    rotation: cameraRotation(...angles),
  };
}

/** How much of the plane a pixel spans. */
export function pixelSize(lens) {
  return (2 * lens.reach) / lens.width;
}

function planePoint(lens, x, y) {
  const scale = pixelSize(lens);
  const [right, up] = [(x - lens.width / 2) * scale, (lens.height / 2 - y) * scale];
  const [cos, sin] = lens.turn;
  return [cos * right + sin * up + lens.centre[0], cos * up - sin * right + lens.centre[1]];
}

/** Camera ray at a plane point and the distance, in plane units, inside the border of what the plane holds. */
function planeRay(lens, x, y) {
  if (CELLS[lens.projection]) return layoutRay(lens.projection, x, y);
  if (lens.projection === "equirectangular") {
    const border = Math.min(Math.PI - Math.abs(x - lens.centre[0]), Math.PI / 2 - Math.abs(y));
    return { ray: lonLatToDirection(x, y), border };
  }
  if (lens.projection === "fisheye") {
    const angle = Math.hypot(x, y);
    const across = angle > 0 ? Math.sin(angle) / angle : 1;
    return { ray: [x * across, y * across, Math.cos(angle)], border: Math.PI / 2 - angle };
  }
  const [a, b] = lens.bend;
  return { ray: [x, y, 1 - (a * x * x + b * y * y) / 4], border: Infinity };
}

/**
 * World direction at a window position and how much of a pixel there the picture covers, 0 … 1: the border of
 * a fisheye, a flat picture or a cubemap is one pixel wide.
 */
export function lookThrough(lens, x, y) {
  const { ray, border } = planeRay(lens, ...planePoint(lens, x, y));
  return {
    direction: normalise(rotate(lens.rotation, ray)),
    covered: clamp(border / pixelSize(lens) + 0.5, 0, 1),
  };
}

/** World direction at a window position, null where the window shows nothing of the sphere. */
export function windowToDirection(lens, x, y) {
  const { direction, covered } = lookThrough(lens, x, y);
  return covered >= 0.5 ? direction : null;
}

/** [longitude, latitude] in radians at a window position, or null. */
export function windowToLonLat(lens, x, y) {
  const direction = windowToDirection(lens, x, y);
  return direction && directionToLonLat(direction);
}

/** The plane point that shows a ray of the camera, or null. */
function rayPoint(lens, ray) {
  if (CELLS[lens.projection]) return layoutPoint(lens.projection, ray);
  if (lens.projection === "equirectangular") {
    const [lon, lat] = directionToLonLat(ray);
    const [middle] = lens.centre;
    return [middle + radians(wrapDegrees(degrees(lon - middle))), lat];
  }
  const [right, up, forward] = ray;
  if (lens.projection === "fisheye") {
    const across = Math.hypot(right, up);
    const angle = Math.atan2(across, forward);
    const scale = across > 0 ? angle / across : 1;
    return angle <= Math.PI / 2 ? [right * scale, up * scale] : null;
  }
  const [a, b] = lens.bend;
  const depth = forward + Math.sqrt(forward * forward + a * right * right + b * up * up);
  return depth > 2e-6 ? [(2 * right) / depth, (2 * up) / depth] : null;
}

/**
 * Window position of a world direction of length 1, which may lie outside of the window; null where the
 * lens's plane does not hold it.
 */
export function directionToWindow(lens, direction) {
  const point = rayPoint(lens, rotateBack(lens.rotation, direction));
  if (!point) return null;
  const [across, up] = point.map((value, axis) => (value - lens.centre[axis]) / pixelSize(lens));
  const [cos, sin] = lens.turn;
  return [lens.width / 2 + cos * across - sin * up, lens.height / 2 - cos * up - sin * across];
}

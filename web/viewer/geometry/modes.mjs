/**
 * The ways to look at a panorama: how each lays the sphere on the window, and how far it can be turned and
 * zoomed. Their order is that of the number keys 1 … 9, 0.
 *
 * `projection` is the plane (see geometry/lens.mjs); `yawDeg` and `pitchDeg` are angles that a mode fixes. Modes of one
 * `place` share where they look. `home` is the field of view after a reset, `limits` the least and the most.
 * Fields of view belong to the width of the window.
 */

import { layoutFovDeg } from "./cube_layouts.mjs";
import { clamp, degrees, horizontalFovDeg, radians } from "./projection.mjs";

const MAX_VERTICAL_FOV_DEG = 125; // a tall window must not see more than a flat plane can hold
const PLANET_SHARE = 0.7; // of the shorter half of the window, for the radius of a little planet's horizon

function perspectiveLimits(width, height) {
  return [10, Math.min(120, horizontalFovDeg(width, height, MAX_VERTICAL_FOV_DEG))];
}

/** Field of view of a stereographic (or, on its central row, Pannini) plane that is this wide. */
function stereographicFovDeg(halfWidth) {
  return degrees(4 * Math.atan(halfWidth / 2));
}

function panniniLimits(width, height) {
  const tallest = Math.tan(radians(MAX_VERTICAL_FOV_DEG) / 2);
  return [30, Math.min(220, stereographicFovDeg((tallest * width) / height))];
}

const fitFlat = (width, height) => Math.max(360, (180 * width) / height);
const fitFisheye = (width, height) => 180 * Math.max(1, width / height);
const fitPlanet = (width, height) => stereographicFovDeg((2 / PLANET_SHARE) * Math.max(1, width / height));

export const MODES = Object.freeze({
  perspective: {
    projection: "rectilinear", place: "around",
    limits: perspectiveLimits, home: () => 90,
  },
  flat: {
    projection: "equirectangular", place: "flat",
    limits: (width, height) => [10, fitFlat(width, height)], home: fitFlat,
  },
  seam: {
    projection: "equirectangular", place: "seam", yawDeg: 180,
    limits: (width, height) => [5, fitFlat(width, height)], home: () => 120,
  },
  zenith: {
    projection: "rectilinear", place: "zenith", pitchDeg: 90,
    limits: perspectiveLimits, home: () => 100,
  },
  nadir: {
    projection: "rectilinear", place: "nadir", pitchDeg: -90,
    limits: perspectiveLimits, home: () => 100,
  },
  planet: {
    projection: "stereographic", place: "planet", homePitchDeg: -90,
    limits: () => [40, 330], home: fitPlanet,
  },
  fisheye: {
    projection: "fisheye", place: "around",
    limits: (width, height) => [30, fitFisheye(width, height)], home: fitFisheye,
  },
  pannini: {
    projection: "pannini", place: "around",
    limits: panniniLimits, home: () => 150,
  },
  cubemap_cross: {
    projection: "cubemap_cross", place: "cubemap",
    limits: (width, height) => [60, layoutFovDeg("cubemap_cross", width, height)],
    home: (width, height) => layoutFovDeg("cubemap_cross", width, height),
  },
  cubemap_3x2: {
    projection: "cubemap_3x2", place: "cubemap",
    limits: (width, height) => [60, layoutFovDeg("cubemap_3x2", width, height)],
    home: (width, height) => layoutFovDeg("cubemap_3x2", width, height),
  },
});

export const MODE_NAMES = Object.freeze(Object.keys(MODES));

/** The key that switches to a mode, and the mode of a key (undefined for others). */
export function keyOf(mode) {
  return String((MODE_NAMES.indexOf(mode) + 1) % 10);
}

export function modeOfKey(key) {
  return MODE_NAMES.find((mode) => keyOf(mode) === key);
}

/**
 * What a camera may do in a mode and a window:
 * `yaw` the angle that stays, or null; `fov` [least, most]; `pitch(fovDeg)` [least, most].
 */
export function limitsOf(mode, width, height) {
  const { yawDeg = null, pitchDeg, projection, limits } = MODES[mode];
  const pitch = (fovDeg) => {
    if (pitchDeg !== undefined) return [pitchDeg, pitchDeg];
    // A flat picture fills the window while it can.
    const room = projection === "equirectangular" ? Math.max(0, 90 - (fovDeg * height) / width / 2) : 90;
    return [-room, room];
  };
  return { yaw: yawDeg, pitch, fov: limits(width, height) };
}

/** Where a mode looks after a reset. */
export function homePose(mode, width, height) {
  const { yawDeg = 0, pitchDeg, homePitchDeg = 0, home, limits } = MODES[mode];
  const fovDeg = clamp(home(width, height), ...limits(width, height));
  return { yawDeg, pitchDeg: pitchDeg ?? homePitchDeg, rollDeg: 0, fovDeg };
}

/**
 * The ways to look at a panorama: how each lays the sphere on the window, and how far it can be turned and
 * zoomed. Their order is that of the number keys 1 … 9, 0.
 *
 * `projection` is the plane (see geometry/lens.mjs); `yawDeg` and `pitchDeg` are angles that a mode fixes. Modes of one
 * `place` share where they look. `least` and `most` limit the field of view, and `home` is what it is after a reset:
 * `most` where it is left out. Fields of view belong to the width of the window.
 */

import { layoutFovDeg } from "./cube_layouts.mjs";
import { clamp, degrees, radians } from "./projection.mjs";

// A tall window must not see more than a flat plane can hold, 125°: half its height.
const TALLEST = Math.tan(radians(125) / 2);
// Of the shorter half of the window, for the radius of a little planet's horizon.
const PLANET_SHARE = 0.7;

/** Field of view of a stereographic (or, on its central row, Pannini) plane that is this wide. */
function stereographicFovDeg(halfWidth) {
  return degrees(4 * Math.atan(halfWidth / 2));
}

const widestFlatLens = (width, height) => Math.min(120, degrees(2 * Math.atan((TALLEST * width) / height)));
const widestPannini = (width, height) => Math.min(220, stereographicFovDeg((TALLEST * width) / height));
const wholeFlat = (width, height) => Math.max(360, (180 * width) / height);
const wholeFisheye = (width, height) => 180 * Math.max(1, width / height);
const smallPlanet = (width, height) => stereographicFovDeg((2 / PLANET_SHARE) * Math.max(1, width / height));
const wholeLayout = (layout) => (width, height) => layoutFovDeg(layout, width, height);

export const MODES = {
  perspective: { projection: "rectilinear", place: "around", least: 10, most: widestFlatLens, home: () => 90 },
  flat: { projection: "equirectangular", least: 10, most: wholeFlat },
  seam: { projection: "equirectangular", yawDeg: 180, least: 5, most: wholeFlat, home: () => 120 },
  zenith: { projection: "rectilinear", pitchDeg: 90, least: 10, most: widestFlatLens, home: () => 100 },
  nadir: { projection: "rectilinear", pitchDeg: -90, least: 10, most: widestFlatLens, home: () => 100 },
  planet: { projection: "stereographic", homePitchDeg: -90, least: 40, most: () => 330, home: smallPlanet },
  fisheye: { projection: "fisheye", place: "around", least: 30, most: wholeFisheye },
  pannini: { projection: "pannini", place: "around", least: 30, most: widestPannini, home: () => 150 },
  cubemap_cross: { projection: "cubemap_cross", place: "cubemap", least: 60, most: wholeLayout("cubemap_cross") },
  cubemap_3x2: { projection: "cubemap_3x2", place: "cubemap", least: 60, most: wholeLayout("cubemap_3x2") },
};

export const MODE_NAMES = Object.keys(MODES);

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
  const { yawDeg = null, pitchDeg, projection, least, most } = MODES[mode];
  const pitch = (fovDeg) => {
    // A flat picture fills the window while it can.
    const room = projection === "equirectangular" ? Math.max(0, 90 - (fovDeg * height) / width / 2) : 90;
    return [pitchDeg ?? -room, pitchDeg ?? room];
  };
  return { yaw: yawDeg, pitch, fov: [least, most(width, height)] };
}

/** Where a mode looks after a reset. */
export function homePose(mode, width, height) {
  const { yawDeg = 0, homePitchDeg = 0, pitchDeg = homePitchDeg, least, most, home = most } = MODES[mode];
  return { yawDeg, pitchDeg, rollDeg: 0, fovDeg: clamp(home(width, height), least, most(width, height)) };
}

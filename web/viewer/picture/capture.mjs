/** A view as a picture: how large it becomes and where its camera stands. Pure functions. */

import { MODES } from "../geometry/modes.mjs";

const STEP = 8; // models work in blocks of 8 pixels
const LARGEST = 8192;
// How far the longer side may be off to meet the window's proportions.
const FREEDOM = 1 / 8;
const GOOD = 0.5; // pixels that the shorter side may be off

/** How long the longer side of a picture becomes, by name. */
export const LENGTHS = Object.freeze(["512", "768", "1024", "1536", "2048", "window", "full"]);

/**
 * [width, height] of a picture in the proportions of a window: multiples of 8 whose longer side is about
 * `length`. Of the sizes nearby it is the nearest within half a pixel of those proportions, or else the best.
 */
export function pictureSize(windowWidth, windowHeight, length) {
  const share = Math.min(windowWidth, windowHeight) / Math.max(windowWidth, windowHeight);
  const most = LARGEST / STEP;
  const goal = Math.min(Math.max(Math.round(length / STEP), 1), most);
  let best = null;
  for (let away = 0; away <= goal * FREEDOM; away += 1) {
    for (const long of [goal - away, goal + away]) {
      const short = Math.max(1, Math.round(long * share));
      const off = STEP * Math.abs(short - long * share);
      if (long <= most && (!best || off < best.off)) best = { long, short, off };
    }
    if (best.off <= GOOD) break;
  }
  const [long, short] = [STEP * best.long, STEP * best.short];
  return windowWidth >= windowHeight ? [long, short] : [short, long];
}

/** The length named `name`, for a window seen through `lens`; `around` is the panorama's width in pixels. */
export function pictureLength(name, lens, around) {
  if (name === "window") return Math.max(lens.width, lens.height);
  if (name !== "full") return Number(name);
  // In the middle, where a unit of the plane is a radian.
  return ((lens.reach * around) / Math.PI) * Math.max(1, lens.height / lens.width);
}

/** Whether a camera could take what a mode shows: it has a flat lens. */
export function isCameraView(mode) {
  return MODES[mode].projection === "rectilinear";
}

/** A pose in tenths of a degree, as the read-out shows it. */
export function roundedPose(pose) {
  return Object.fromEntries(Object.entries(pose).map(([name, angle]) => [name, Math.round(angle * 10) / 10]));
}

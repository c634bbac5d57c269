/** A view as a picture: how large it becomes, where its camera stands, and PNG files through the browser's downloads. */

import { MODES } from "../geometry/modes.mjs";
import { clamp } from "../geometry/projection.mjs";
import { element } from "../panel/elements.mjs";
import { text } from "../texts/text.mjs";

const KEEP_ADDRESS_MS = 60_000; // the browser may ask the person first where to put the file
const STEP = 8; // models work in blocks of 8 pixels
const LARGEST = 8192;
// How far the longer side may be off to meet the window's proportions.
const FREEDOM = 1 / 8;
const GOOD = 0.5; // pixels that the shorter side may be off

/** How long the longer side of a picture becomes, by name. */
export const LENGTHS = ["512", "768", "1024", "1536", "2048", "window", "full"];

/**
 * [width, height] of a picture in the proportions of a window: multiples of 8 whose longer side is about
 * `length`. Of the sizes nearby it is the nearest within half a pixel of those proportions, or else the best.
 */
export function pictureSize(windowWidth, windowHeight, length) {
  const share = Math.min(windowWidth, windowHeight) / Math.max(windowWidth, windowHeight);
  const most = LARGEST / STEP;
  const goal = clamp(Math.round(length / STEP), 1, most);
  let best = null;
  for (let away = 0; away <= goal * FREEDOM; away += 1) {
    for (const long of [goal - away, goal + away]) {
      const short = Math.max(1, Math.round(long * share));
      const off = STEP * Math.abs(short - long * share);
      if (long <= most && !(off >= best?.off)) best = { size: [STEP * long, STEP * short], off };
    }
    if (best.off <= GOOD) break;
  }
  return windowWidth >= windowHeight ? best.size : best.size.reverse();
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

/** [width, height] of a picture of the view: multiples of 8 in the window's proportions. */
export function sizeOf(view) {
  const { width, height } = view.canvas;
  return pictureSize(width, height, pictureLength(view.display.length, view.lens(width, height), view.picture.around));
}

/** Save the view as a file and say so; “as the window” is then exactly that size. */
export async function saveView(view) {
  if (!view.picture) return view.overlay.say(text("nothingToSave"));
  const { width, height } = view.canvas;
  try {
    const name = await save(view, view.display.length === "window" ? [width, height] : sizeOf(view));
    view.overlay.say(text("saved", { name }));
  } catch (problem) {
    view.overlay.say(problem.message);
  }
}

/** The file's name. Nothing that lies over the picture comes with it. */
async function save(view, [width, height]) {
  const { mode, pose, renderer, plainDisplay } = view;
  const canvas = element("canvas", "", { width, height });
  const lens = view.lens(width, height);
  const paint = () => view.paint(lens, plainDisplay, canvas.getContext("2d", { alpha: false }));
  paint();
  // The tiles that it lacks.
  await renderer.pool.complete(lens);
  if (renderer.lost || !view.picture) throw new Error(text("wentAway"));
  paint();
  renderer.shrink();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error(text("tooLarge", { size: `${width} × ${height}` }));
  const download = `${mode}_yaw${Math.round(pose.yawDeg)}_pitch${Math.round(pose.pitchDeg)}_${width}x${height}.png`;
  const href = URL.createObjectURL(blob);
  element("a", "", { href, download }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEEP_ADDRESS_MS);
  return download;
}

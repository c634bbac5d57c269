/** Pictures of what a viewer shows: their size, and PNG files through the browser's downloads. */

import { pictureLength, pictureSize } from "./capture.mjs";
import { displayIn } from "./display.mjs";
import { element } from "../panel/elements.mjs";
import { text } from "../texts/text.mjs";

const KEEP_ADDRESS_MS = 60_000; // the browser may ask the person first where to put the file

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
  const { mode, pose, renderer } = view;
  const canvas = element("canvas", "", { width, height });
  const lens = view.lens(width, height);
  const display = { ...displayIn(mode, view.display), seamLine: false };
  const paint = () => view.paint(lens, display, canvas.getContext("2d", { alpha: false }));
  paint();
  // The tiles that it lacks.
  await renderer.pool.complete(lens);
  if (renderer.lost || !view.picture) throw new Error(text("wentAway"));
  paint();
  renderer.shrink();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error(text("tooLarge", { size: `${width} × ${height}` }));
  const [yaw, pitch] = [Math.round(pose.yawDeg), Math.round(pose.pitchDeg)];
  const download = `${mode}_yaw${yaw}_pitch${pitch}_${width}x${height}.png`;
  const href = URL.createObjectURL(blob);
  element("a", "", { href, download }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEEP_ADDRESS_MS);
  return download;
}

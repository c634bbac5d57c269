/** From a picture's address or bytes to something the graphics card takes, decoded off the main thread. */

import { decoded, fetched, resized } from "./decode.mjs";
import { coverage } from "../geometry/projection.mjs";
import { cutBitmap } from "./pyramid.mjs";
import { readCrop } from "./gpano.mjs";
import { stereoOf } from "./stereo.mjs";
import { text } from "../texts/text.mjs";

/**
 * A picture to show, as `loadPicture` gives it.
 *
 * @param {string|Blob|{load: () => Promise<object>}} source as for `loadPicture`, or what gives such a picture; one that
 *     is `kept` is not closed by who shows it
 * @param {{cube?: boolean, crop?: object}} options whether it is six faces of a cube, F R B above L U D; the part of the
 *     sphere that it is, whatever its file says
 */
export async function pictureFor(source, { cube, crop }, limit, signal) {
  const picture = await (source.load ? source.load() : loadPicture(source, cube ? Infinity : limit, signal));
  return { ...picture, cube, crop: crop ?? picture.crop };
}

/**
 * Load a picture.
 *
 * @param {string|Blob|{preview, levels, address}} source same-origin address, the file itself, or a large picture: the
 *     address of its preview, [width, height] of the levels that are cut into tiles, and `address(level, column, row)`
 * @param {number} limit largest width or height of a texture
 * @param {AbortSignal} signal stops the download
 * @returns {Promise<{bitmap: ImageBitmap, width: number, height: number, crop: object, tiles: object}>}
 *     `width` and `height` are the true size; the bitmap is smaller when a texture cannot hold it, or when there are
 *     `tiles` (see picture/pyramid.mjs). The caller closes it. `crop` is what picture/gpano.mjs finds in the file.
 */
export async function loadPicture(source, limit, signal) {
  if (source.levels) {
    const [width, height] = source.levels[0];
    const load = async (level, column, row, stop) => decoded(await fetched(source.address(level, column, row), stop));
    const bitmap = await decoded(await fetched(source.preview, signal));
    return { bitmap, width, height, tiles: { levels: source.levels, load } };
  }
  const blob = source instanceof Blob ? source : await fetched(source, signal);
  const [crop, bitmap] = await Promise.all([readCrop(blob), decoded(blob)]);
  const { width, height } = bitmap;
  const picture = { bitmap, width, height, crop };
  if (limit < Infinity && stereoOf(picture, "auto") === "one" && !crop) {
    return { ...picture, ...(await cutBitmap(bitmap, limit)) };
  }
  if (Math.max(width, height) <= limit) return picture;
  picture.bitmap = await resized(bitmap, ...fittedSize(width, height, limit), "high");
  bitmap.close();
  return picture;
}

/** The largest size of the same proportions with both sides within `limit`; 2:1 stays exactly 2:1. */
export function fittedSize(width, height, limit) {
  const scale = Math.min(1, limit / Math.max(width, height));
  const fitHeight = Math.max(1, Math.floor(height * scale));
  return [width === 2 * height ? 2 * fitHeight : Math.max(1, Math.round(width * scale)), fitHeight];
}

/** What the person should know about a loaded picture, in lines. */
export function warningsAbout({ width, height, bitmap, crop, cube, tiles }, layout) {
  const warnings = [];
  const size = `${width} × ${height}`;
  if (crop === false) warnings.push(text("badCrop"));
  if (layout !== "one") {
    warnings.push(text("stereoPair", { layout: text(`${layout}Eye`) }));
  } else if (crop) {
    warnings.push(text("part", { size: `${crop.fullWidth} × ${crop.fullHeight}` }));
  } else if (!cube && !coverage(width, height).full) {
    warnings.push(text(width > 2 * height ? "openAround" : "openBehind", { size }));
  }
  const sharp = bitmap.width === width || (tiles && layout === "one");
  if (!sharp) warnings.push(text("scaled", { shown: `${bitmap.width} × ${bitmap.height}`, size }));
  return warnings;
}

/** Free what is not shown of a picture, or all of a `kept` one. */
export function closePicture({ bitmap, tiles, kept }) {
  bitmap.close();
  if (kept || !tiles?.used) tiles?.close?.();
}

/** What a viewer shows is another picture, or more of it: draw it soon, and the viewers that compare it. */
export function renew(view) {
  for (const one of [view, ...view.peers()]) one.requestFrame();
}

/** Keep a viewer up to date with a picture that it shows: its `warnings`, see `Overlay.showNotices`, and its tiles. */
export function follow(view, { tiles }, warnings, about) {
  const { overlay } = view;
  overlay.showNotices(warnings, about);
  if (!tiles) return;
  tiles.changed = (busy, problem) => {
    overlay.showBusy(busy);
    renew(view);
    if (problem) overlay.showNotices([...warnings, text("blurred", { problem: problem.message })], about);
  };
}

/** From a picture's address or bytes to something the graphics card takes, decoded off the main thread. */

import { clamp, coverage } from "../geometry/projection.mjs";
import { readCrop } from "./gpano.mjs";
import { text } from "../texts/text.mjs";

/** Colours as they are in the file, so that pixels stay comparable: not converted, not multiplied by alpha. */
const EXACT = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

/** A picture that is not there any more: temporary files go when the server restarts. */
export class PictureGoneError extends Error {}

/**
 * A picture to show, as `loadPicture` gives it.
 *
 * @param {string|Blob|{load: () => Promise<object>}} source as for `loadPicture`, or what gives such a picture; one that
 *     is `kept` is not closed by who shows it
 * @param {{crop?: object, cube?: boolean}} options which part of the sphere it is, when its file does not say (see
 *     picture/gpano.mjs); whether it is six faces of a cube, F R B above L U D
 */
export async function pictureFor(source, { crop, cube }, limit, signal) {
  const picture = await (source.load ? source.load() : loadPicture(source, cube ? Infinity : limit, signal));
  return { ...picture, crop: crop ?? picture.crop, cube };
}

/**
 * Load a picture.
 *
 * @param {string|Blob} source same-origin address, or the file itself
 * @param {number} limit largest width or height of a texture
 * @param {AbortSignal} signal stops the download
 * @returns {Promise<{bitmap: ImageBitmap, width: number, height: number, scaled: boolean, crop: object}>}
 *     `width` and `height` are the true size; the bitmap is smaller when `scaled`. The caller closes it.
 *     `crop` is what picture/gpano.mjs finds in the file.
 */
export async function loadPicture(source, limit, signal) {
  const blob = source instanceof Blob ? source : await download(source, signal);
  const crop = await readCrop(blob);
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, EXACT);
  } catch {
    throw new Error(text("unreadable"));
  }
  const { width, height } = bitmap;
  const [fitWidth, fitHeight] = fittedSize(width, height, limit);
  if (fitWidth === width && fitHeight === height) return { bitmap, width, height, scaled: false, crop };
  const smaller = await createImageBitmap(bitmap, {
    ...EXACT, resizeWidth: fitWidth, resizeHeight: fitHeight, resizeQuality: "high",
  });
  bitmap.close();
  return { bitmap: smaller, width, height, scaled: true, crop };
}

/** The largest size of the same proportions with both sides within `limit`; 2:1 stays exactly 2:1. */
export function fittedSize(width, height, limit) {
  const scale = Math.min(1, limit / Math.max(width, height));
  if (scale === 1) return [width, height];
  const fitHeight = clamp(Math.floor(height * scale), 1, limit);
  if (width === 2 * height) return [2 * fitHeight, fitHeight];
  return [clamp(Math.round(width * scale), 1, limit), fitHeight];
}

/** What the person should know about a loaded picture, in lines. */
export function warningsAbout({ width, height, scaled, bitmap, crop, cube }, layout) {
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
  if (scaled) warnings.push(text("scaled", { shown: `${bitmap.width} × ${bitmap.height}`, size }));
  return warnings;
}

async function download(address, signal) {
  const response = await fetch(address, { signal, credentials: "same-origin" });
  if (response.status === 404) throw new PictureGoneError(text("gone"));
  if (!response.ok) throw new Error(text("serverSaid", { status: response.status }));
  return response.blob();
}

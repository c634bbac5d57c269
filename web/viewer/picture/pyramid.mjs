/**
 * Pictures too large to be shown in one piece, as pyramids:
 *
 *   levels  [width, height] of each level that is cut into tiles, from the finest on
 *   load(level, column, row, signal)  a promise of one tile with its border: an ImageBitmap or a canvas
 *   close()  frees what they are cut from; not there where they are files
 *
 * The node cuts what it shows (panodiff_core/io/pyramid.py); other files are cut here, by the same rules.
 */

import { TILE } from "../geometry/tiles_seen.mjs";
import { coverage } from "../geometry/projection.mjs";
import { resized } from "./decode.mjs";

// Pictures whose sides are no longer stay in one piece.
const WHOLE = 4096;
const PREVIEW = 2048;

/** {bitmap: its preview, tiles: its pyramid} of a bitmap; null where one texture of `limit` will do. */
export async function cutBitmap(bitmap, limit) {
  if (longest(bitmap) <= Math.min(WHOLE, limit)) return null;
  const bitmaps = [bitmap];
  while (longest(bitmaps.at(-1)) > Math.min(PREVIEW, limit)) bitmaps.push(await halved(bitmaps.at(-1)));
  const preview = bitmaps.pop();
  return {
    bitmap: preview,
    tiles: {
      levels: bitmaps.map(({ width, height }) => [width, height]),
      load: async (level, column, row) => cutTile(bitmaps[level], column * TILE, row * TILE),
      close: () => bitmaps.forEach((one) => one.close()),
    },
  };
}

function longest({ width, height }) {
  return Math.max(width, height);
}

/** 2:1 stays exactly 2:1. */
function halved(bitmap) {
  const { width, height } = bitmap;
  const high = Math.max(1, height >> 1);
  return resized(bitmap, width === 2 * height ? 2 * high : Math.max(1, width >> 1), high, "medium");
}

/** A tile and its border: around the back meridian, over the poles, or the edge again where the sphere is open. */
function cutTile(bitmap, x, y) {
  const { width, height } = bitmap;
  const { full, wraps } = coverage(width, height);
  const size = [Math.min(TILE, width - x) + 2, Math.min(TILE, height - y) + 2];
  const canvas = new OffscreenCanvas(...size);
  // In memory, since it is read once, by the upload.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.translate(1 - x, 1 - y);
  const drawRow = (from, left, to) => context.drawImage(bitmap, 0, from, width, 1, left, to, width, 1);
  for (const shift of full ? [-width / 2, width / 2] : [0]) {
    drawRow(0, shift, -1);
    drawRow(height - 1, shift, height);
  }
  for (const shift of wraps ? [-width, 0, width] : [-1, 1, 0]) context.drawImage(bitmap, shift, 0);
  return canvas;
}

/** Which tiles of a large picture a lens sees, at the size at which it sees them. Pure functions. */

import { lookThrough, pixelSize } from "./lens.mjs";
import { directionToLonLat, distance } from "./projection.mjs";

// Pixels, without the border of one pixel that each tile has.
export const TILE = 1024;
// Squares along the longer side of the window; in them samples stand so close that each pixel is within
// half a square's side of one, up and down and to the sides.
const SQUARES = 16;
const STRIDE = 2 / 3;
// Of a square, to see how large it is.
const STEP = 1 / 32;
// Of a square, around a sample: beyond an edge between faces there may be nearly as much before the next sample.
const MARGIN = 0.8;
// Levels; neighbouring pixels see about the same size.
const SLACK = 0.1;

/**
 * @param {object} lens see geometry/lens.mjs
 * @param {{levels: number[][], sphere: number[], offset: number[]}} pyramid [width, height] of each level, from the
 *     finest on, and in pixels of the finest the size that the whole sphere would have and where in it the picture begins
 * @param {boolean} smooth choose levels by what a window pixel sees; otherwise the finest
 * @param {number} least the finest level to use
 * @returns {Set<string>} "level_column_row"
 */
export function tilesSeen(lens, pyramid, smooth, least = 0) {
  const { levels, sphere } = pyramid;
  const seen = new Set();
  const side = Math.max(lens.width, lens.height) / SQUARES;
  // A square is one of its pixels, and covered where any of it is.
  const coarse = { ...lens, width: lens.width / side, height: lens.height / side };
  for (let y = 0; y < coarse.height + STRIDE; y += STRIDE) {
    for (let x = 0; x < coarse.width + STRIDE; x += STRIDE) {
      const area = areaAt(coarse, x, y);
      if (!area) continue;
      const level = smooth ? Math.log2((area.size * sphere[1]) / Math.PI / side) : -Infinity;
      const last = Math.min(Math.max(least, Math.ceil(level + SLACK)), levels.length - 1);
      for (let index = Math.max(least, Math.floor(level - SLACK)); index <= last; index += 1) {
        addTiles(seen, index, pyramid, area);
      }
    }
  }
  return seen;
}

/** What is around a sample: the middle, how many radians a square is, and how far to look to the sides and up. */
function areaAt(lens, x, y) {
  const { direction, covered } = lookThrough(lens, x, y);
  if (covered === 0) return null;
  const flat = lens.projection === "equirectangular";
  const apart = (right, down) => distance(lookThrough(lens, x + right, y + down).direction, direction) / STEP;
  const size = flat ? pixelSize(lens) : Math.max(apart(STEP, 0), apart(0, STEP));
  const [lon, lat] = directionToLonLat(direction);
  const margin = MARGIN * size;
  const narrow = Math.cos(Math.min(Math.abs(lat) + margin, Math.PI / 2));
  const across = flat && narrow > 1e-9 ? margin : Math.min(margin / narrow, Math.PI);
  return { lon, lat, size, margin, across };
}

function addTiles(seen, index, { levels, sphere, offset }, { lon, lat, margin, across }) {
  const [width, height] = levels[index];
  const share = width / levels[0][0];
  const around = sphere[0] * share;
  const perRadian = around / (2 * Math.PI);
  const range = (middle, reach, length) => {
    const [start, end] = [Math.max(0, middle - reach * perRadian), Math.min(length - 1, middle + reach * perRadian)];
    return [Math.floor(start / TILE), start > end ? -1 : Math.floor(end / TILE)];
  };
  const [top, bottom] = range((Math.PI / 2 - lat) * perRadian - offset[1] * share, margin, height);
  for (const turn of [-around, 0, around]) {
    const [left, right] = range((Math.PI + lon) * perRadian - offset[0] * share + turn, across, width);
    for (let column = left; column <= right; column += 1) {
      for (let row = top; row <= bottom; row += 1) seen.add(`${index}_${column}_${row}`);
    }
  }
}

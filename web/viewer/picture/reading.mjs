/** What the picture has at a place in the window. */

import { degrees, formatDegrees, lonLatToPixel } from "../geometry/projection.mjs";
import { readTexels } from "../gl/heat.mjs";
import { text } from "../texts/text.mjs";

/**
 * Column and row of a place on the sphere in the texture and in the picture itself, which is larger where the
 * graphics card takes less; null outside of it.
 * @param {{size: number[], sphere: number[]}} texture its own size and that of the whole sphere
 * @param {number} around the width that the whole sphere has in the picture itself
 */
export function pixelAt([lon, lat], { size, sphere }, around) {
  const at = lonLatToPixel(lon, lat, ...sphere).map((value, axis) => value + 0.5 + (size[axis] - sphere[axis]) / 2);
  if (at.some((value, axis) => value < 0 || value > size[axis])) return null;
  // A place on the last edge belongs to the last pixel.
  return [1, around / sphere[0]].map((scale) =>
    at.map((value, axis) => Math.floor(Math.min(value, size[axis] - 1e-3) * scale)));
}

/** The place, its pixel and the pixel's value in words. */
export function readingAt({ picture, renderer, around }, place) {
  const found = picture && place && pixelAt(place, picture, around);
  if (!found) return text("outside");
  const [lon, lat] = place.map((angle) => formatDegrees(degrees(angle)));
  const [texel, [x, y]] = found;
  const colour = readTexels(renderer.gl, picture, 0, ...texel, 1).subarray(0, 3).join(" ");
  return `lon ${lon} · lat ${lat} · x ${x} · y ${y} · RGB ${around === picture.sphere[0] ? "" : "≈ "}${colour}`;
}

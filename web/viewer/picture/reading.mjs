/** What the picture has at a place in the window. */

import { degrees, formatDegrees, lonLatToPixel } from "../geometry/projection.mjs";
import { readTexels } from "../gl/heat.mjs";
import { text } from "../texts/text.mjs";

/**
 * Column and row of a place on the sphere in the texture and in the picture itself, which is larger where the
 * graphics card takes less; null outside of it.
 * @param {{size, sphere, offset, around}} texture its own size, that of the whole sphere and where in it it begins; the
 *     width that the whole sphere has in the picture itself
 */
export function pixelAt([lon, lat], { size, sphere, offset, around }) {
  const at = lonLatToPixel(lon, lat, ...sphere).map((value, axis) => value + 0.5 - offset[axis]);
  if (at[0] < 0) at[0] += sphere[0]; // a part may lie across the back
  if (at.some((value, axis) => value < 0 || value > size[axis])) return null;
  // A place on the last edge belongs to the last pixel.
  return [1, around / sphere[0]].map((scale) =>
    at.map((value, axis) => Math.floor(Math.min(value, size[axis] - 1e-3) * scale)));
}

/** The place, its pixel and the pixel's value in words. */
export function readingAt({ picture, renderer }, place) {
  if (!picture || !place) return text("outside");
  const [lon, lat] = place.map((angle) => formatDegrees(degrees(angle)));
  if (picture.cube) return text("place", { lon, lat });
  const found = pixelAt(place, picture);
  if (!found) return text("outside");
  const [texel, [x, y]] = found;
  const colour = readTexels(renderer.gl, picture, 0, ...texel, 1).subarray(0, 3).join(" ");
  return text(picture.around === picture.sphere[0] ? "pixel" : "nearPixel", { lon, lat, x, y, colour });
}

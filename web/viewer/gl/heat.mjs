/**
 * The seam heat map: how far the picture jumps from a column to the next, against what it does elsewhere.
 *
 *   heat(x, y) = step(x, y) ÷ (average · max(cos latitude, 1/16))
 *   step(x, y) = mean over R, G, B of max(|I(x + 1, y) − I(x, y)| − 1/255, 0)
 *
 * `average` is the mean step inside the picture, over 64 rows, times π/2, since the mean cosine is 2/π; at least
 * half of 1/255. Columns lie ever closer together towards a pole, so the cosine makes a pinch show as a cut does.
 * A difference of 1/255 is rounding. Black is average or less, then red, yellow and, from 16 times, white, over a dim
 * grey picture. Columns are those of the mipmap whose texels are no narrower than the window's pixels.
 */

import { pixelSize } from "../geometry/lens.mjs";

const ROWS = 64;

export const HEAT = `
#ifdef HEAT
uniform float u_level;
uniform float u_average;

vec3 heated(vec3 value, vec2 uv, float lat) {
  vec2 size = vec2(textureSize(u_picture, int(u_level)));
  vec2 left = (floor(uv * size - vec2(0.5, 0.0)) + 0.5) / size; // of two centres, where filters have no say
  vec4 change = textureLod(u_picture, left + vec2(1.0 / size.x, 0.0), u_level) - textureLod(u_picture, left, u_level);
  float jump = dot(max(abs(change.rgb) - 1.0 / 255.0, 0.0), vec3(1.0 / 3.0));
  float heat = 0.75 * log2(max(jump / (u_average * max(cos(lat), 1.0 / 16.0)), 1.0));
  return max(clamp(heat - vec3(0.0, 1.0, 2.0), 0.0, 1.0), vec3(dot(value, vec3(1.0 / 12.0))));
}
#endif
`;

/** The bytes R, G, B, A of `count` texels of a row of a mipmap, from `column` on. */
export function readTexels(gl, { texture }, level, column, row, count) {
  const frame = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, level);
  const bytes = new Uint8Array(4 * count);
  gl.readPixels(column, row, count, 1, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
  gl.deleteFramebuffer(frame);
  return bytes;
}

/** `average` of a mipmap of a picture. */
export function averageStep(gl, picture, level) {
  const [width, height] = picture.size.map((size) => Math.max(size >> level, 1));
  let sum = 0;
  for (let index = 0; index < ROWS; index += 1) {
    const bytes = readTexels(gl, picture, level, 0, Math.floor(((index + 0.5) * height) / ROWS), width);
    for (let at = 4; at < bytes.length; at += 1) {
      if (at % 4 < 3) sum += Math.max(Math.abs(bytes[at] - bytes[at - 4]) - 1, 0);
    }
  }
  return Math.max((sum * Math.PI) / (6 * ROWS * (width - 1)), 0.5) / 255;
}

/** The mipmap that is shown of a picture through `lens`; in every mode a window pixel is widest in the middle. */
export function heatLevel(picture, lens) {
  return Math.max(Math.ceil(Math.log2((pixelSize(lens) * picture.sphere[1]) / Math.PI)), 0);
}

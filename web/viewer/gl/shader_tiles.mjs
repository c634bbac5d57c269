/**
 * The part of the shader that reads the tiles of a large picture: gl/tiles.mjs says where they lie. A tile's
 * border holds its neighbours' pixels, so each is read by itself.
 */

import { TILE } from "../geometry/tiles_seen.mjs";

export const TILES = `
#ifdef TILES
uniform highp sampler2DArray u_tiles;
uniform sampler2D u_table;
// Width, height and first row of the table, from the finest on.
uniform vec3 u_levels[6];
// The finest level in use, and how many there are before the preview.
uniform ivec2 u_depth;

// Where in a layer to read a level, in pixels, and which layer; -1 where the tile is not there.
vec3 tileAt(vec2 uv, int index) {
  // Pixels on the border of a flat picture may look beyond a pole, where the same row lies, half a turn around.
  if (uv.y < 0.0 || uv.y > 1.0) uv = vec2(fract(uv.x + 0.5), abs(2.0 * step(1.0, uv.y) - uv.y));
  vec3 level = u_levels[min(index, u_depth.y - 1)];
  vec2 at = uv * level.xy;
  vec2 cell = floor(clamp(at, vec2(0.0), level.xy - 1.0) / ${TILE}.0);
  float layer = 255.0 * texelFetch(u_table, ivec2(cell) + ivec2(0, level.z), 0).r;
  return vec3(at - cell * ${TILE}.0 + 1.0, index < u_depth.y ? floor(layer + 0.5) - 1.0 : -1.0);
}

vec4 tileTexel(ivec3 at) {
  return premultiplied(texelFetch(u_tiles, at, 0));
}

// Bilinear in full float precision, as points of small pictures are read.
vec4 tilePoint(vec2 uv, vec4 coarser) {
  vec3 at = tileAt(uv, u_depth.x) - vec3(0.5, 0.5, 0.0);
  vec2 weight = fract(at.xy);
  ivec3 p = ivec3(floor(at));
  vec4 above = mix(tileTexel(p), tileTexel(p + ivec3(1, 0, 0)), weight.x);
  vec4 below = mix(tileTexel(p + ivec3(0, 1, 0)), tileTexel(p + ivec3(1, 1, 0)), weight.x);
  return at.z < 0.0 ? coarser : mix(above, below, weight.y);
}

// One level as it is; change and scale are how far a window pixel reaches in the picture.
vec4 tileArea(vec2 uv, int index, vec4 coarser, mat2 change, vec2 scale) {
  vec3 at = tileAt(uv, index) / vec3(${TILE + 2}.0, ${TILE + 2}.0, 1.0);
#ifdef ANISOTROPIC
  scale *= u_levels[min(index, u_depth.y - 1)].xy / ${TILE + 2}.0;
  vec4 value = textureGrad(u_tiles, at, change[0] * scale, change[1] * scale);
#else
  vec4 value = textureLod(u_tiles, at, 0.0);
#endif
  return at.z < 0.0 ? coarser : value;
}
#endif
`;

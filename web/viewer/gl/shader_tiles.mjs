/**
 * The part of the shader that reads the tiles of a large picture: gl/tiles.mjs says where they lie. A tile's
 * border holds its neighbours' pixels, so each is read by itself.
 */

import { TILE } from "../geometry/tiles_seen.mjs";

export const TILES = `
#ifdef TILES
uniform highp sampler2DArray u_tiles;
// For each level and each tile of the finest: what to read there, of that level or, until it is there,
// of a coarser one; then, for the preview, nothing.
uniform highp sampler2D u_table;
// The finest level in use, how many there are before the preview, and tiles of the finest from top to bottom.
uniform ivec3 u_depth;
// Width and height of the finest level.
uniform vec2 u_finest;

// Where to read: in which layer, -1 where only the preview is there, at which of its pixels, and the size of the level.
struct Tile { float layer; vec2 at, size; };

Tile tileAt(vec2 uv, int index) {
#if PROJECTION == EQUIRECTANGULAR
  // Pixels on the border may look beyond a pole, where the same row lies, half a turn around.
  if (uv.y < 0.0 || uv.y > 1.0) uv = vec2(fract(uv.x + 0.5), abs(2.0 * step(1.0, uv.y) - uv.y));
#endif
  ivec2 cell = ivec2(clamp(uv * u_finest, vec2(0.0), u_finest - 1.0) / ${TILE}.0);
  vec4 entry = texelFetch(u_table, cell + ivec2(0, min(index, u_depth.y) * u_depth.z), 0);
  // Layers and left edges share a number: pictures are less than 65536 wide.
  float layer = floor(entry.z / 65536.0);
  return Tile(layer - 1.0, uv * entry.xy - vec2(entry.z - 65536.0 * layer, entry.w) + 1.0, entry.xy);
}

vec4 tileTexel(ivec3 at) {
  return premultiplied(texelFetch(u_tiles, at, 0));
}

// Bilinear in full float precision, as points of small pictures are read.
vec4 tilePoint(Tile tile) {
  vec2 at = tile.at - 0.5, weight = fract(at);
  ivec3 p = ivec3(floor(at), tile.layer);
  vec4 above = mix(tileTexel(p), tileTexel(p + ivec3(1, 0, 0)), weight.x);
  vec4 below = mix(tileTexel(p + ivec3(0, 1, 0)), tileTexel(p + ivec3(1, 1, 0)), weight.x);
  return mix(above, below, weight.y);
}

// One level as it is, averaged over how far (change) a window pixel reaches on the sphere, 0 ... 1.
vec4 tileArea(Tile tile, mat2 change) {
  vec3 at = vec3(tile.at / ${TILE + 2}.0, tile.layer);
#ifdef ANISOTROPIC
  vec2 scale = tile.size / ${TILE + 2}.0;
  return textureGrad(u_tiles, at, change[0] * scale, change[1] * scale);
#else
  return textureLod(u_tiles, at, 0.0);
#endif
}
#endif
`;

/** The part of the shader that reads the picture and shows its values. */

import { ERROR_COLOURS } from "./error_colours.mjs";
import { HEAT } from "./heat.mjs";

export const PICTURE = `
uniform vec2 u_sphere;       // size of the whole sphere in texels
uniform vec2 u_offset;       // where in it the picture begins
uniform float u_anisotropy;  // how much longer than wide the area of one reading may be
uniform float u_exposure;    // factor in linear light
uniform float u_gamma;

const vec3 NIGHT = vec3(0.055, 0.063, 0.078);

#ifdef CUBE
#define PLACE vec3
uniform samplerCube u_picture;
#else
#define PLACE vec2
uniform sampler2D u_picture;
#endif

// Filtered by the hardware, which reads across the edges of a cube.
vec4 filtered(PLACE place, float level) {
  return premultiplied(textureLod(u_picture, place, level));
}

#ifndef CUBE
// A picture texel. The column after the last is the first.
vec4 texel(int column, int row) {
  ivec2 size = textureSize(u_picture, 0);
  column = column < 0 ? column + size.x : column >= size.x ? column - size.x : column;
  return premultiplied(texelFetch(u_picture, ivec2(column, row), 0));
}

// Two neighbours of a row, weighted.
vec4 alongRow(int left, int row, float weight) {
  ivec2 size = textureSize(u_picture, 0);
#ifdef PARTIAL
  row = clamp(row, 0, size.y - 1);
#else
  if (row < 0 || row >= size.y) { // beyond a pole lies the same row again, half a turn around
    row = row < 0 ? -1 - row : 2 * size.y - 1 - row;
    left += size.x / 2;
  }
#endif
  int right = left + 1;
#ifdef OPEN // it ends at its left and right edges
  left = max(left, 0);
  right = min(right, size.x - 1);
#endif
  return mix(texel(left, row), texel(right, row), weight);
}

// Bilinear at level 0 in full float precision; graphics hardware rounds its own weights to 1/256.
vec4 bilinear(vec2 uv) {
  vec2 at = uv * vec2(textureSize(u_picture, 0)) - 0.5, weight = fract(at);
  ivec2 p = ivec2(floor(at));
  return mix(alongRow(p.x, p.y, weight.x), alongRow(p.x, p.y + 1, weight.x), weight.y);
}

// How many texels high the area is that a window pixel sees.
float texelsSeen(Sight sight) {
  return sight.footprint * u_sphere.y / PI;
}

// Averaged over that area.
#ifdef ANISOTROPIC
vec4 averaged(vec2 uv, Sight sight) {
  // Towards a pole that area covers ever more columns, up to the limit of what is read at once.
  float narrow = max(narrowing(sight), 1.0 / u_anisotropy);
  vec2 scale = vec2(1.0 / (2.0 * PI * narrow), -1.0 / PI);
  mat2 change = mat2(sight.change[0] * scale, sight.change[1] * scale);
  vec2 whole = u_sphere / vec2(textureSize(u_picture, 0)); // of which the picture may be a part
  vec4 value = textureGrad(u_picture, uv, change[0] * whole, change[1] * whole);
#ifdef TILES
  float index = max(log2(texelsSeen(sight)) + float(u_depth.y), float(u_depth.x));
  Tile fine = tileAt(uv, int(index)), coarse = tileAt(uv, int(index) + 1);
  vec4 coarser = tileArea(coarse, change), finer = tileArea(fine, change);
  value = coarse.layer < 0.0 ? value : coarser;
  value = mix(fine.layer < 0.0 ? value : finer, value, fract(index));
#endif
  return premultiplied(value);
}

#else
// For processors, which draw the faster the less they read: only the nearest level.
vec4 averaged(vec2 uv, Sight sight) {
  // The logarithm to base 2, within 0.05: of a float's bits the upper are its whole part, the others nearly the rest.
  float level = floor(float(floatBitsToInt(texelsSeen(sight))) / 8388608.0 - 126.457);
  vec4 value = vec4(0.0);
#ifdef TILES
  Tile tile = tileAt(uv, max(int(level) + u_depth.y, u_depth.x));
  if (tile.layer >= 0.0) value = tileArea(tile, mat2(0.0));
  else // is not read where none of a few pixels side by side needs it
#endif
  value = textureLod(u_picture, uv, max(level, 0.0));
  return premultiplied(value);
}
#endif
#endif

vec3 ground() {
#ifdef CHECKER
  vec2 square = step(0.5, fract(gl_FragCoord.xy / 16.0));
  return vec3(square.x == square.y ? 0.42 : 0.58);
#else
  return NIGHT;
#endif
}

vec3 toLinear(vec3 c) {
  return mix(c / 12.92, pow((c + 0.055) / 1.055, vec3(2.4)), step(0.04045, c));
}

vec3 fromLinear(vec3 c) {
  return mix(c * 12.92, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}

// A value as the display settings show it.
vec3 displayed(vec4 read, PLACE place) {
  vec3 value = read.rgb + ground() * (1.0 - read.a);
#ifdef CONTRAST
  vec4 mean = filtered(place, max(log2(u_sphere.x / 64.0), 0.0));
  value = 0.5 + 8.0 * (value - mean.rgb - ground() * (1.0 - mean.a));
#endif
#ifdef TONE
  value = fromLinear(clamp(toLinear(clamp(value, 0.0, 1.0)) * u_exposure, 0.0, 1.0));
  value = pow(value, vec3(1.0 / u_gamma));
#endif
  return value;
}

// Distance to the nearest line of a grid, as the strength of an antialiased line.
float line(float angle, float spacing, float footprint) {
  float offset = abs(fract(angle / spacing + 0.5) - 0.5) * spacing;
  return 1.0 - smoothstep(0.6 * footprint, 1.6 * footprint, offset);
}

// What is drawn where there is no picture: a quiet globe grid every 15 degrees, the horizon a little
// brighter.
vec3 emptySphere(Sight sight) {
  float step15 = PI / 12.0, footprint = sight.footprint;
  float across = narrowing(sight);
  float around = line(sight.lonLat.x, step15, footprint / max(across, 0.02)) * smoothstep(0.02, 0.2, across);
  float grid = max(around, line(sight.lonLat.y, step15, footprint));
  float horizon = line(sight.lonLat.y, PI, 1.3 * footprint);
  vec3 base = NIGHT + vec3(0.030, 0.036, 0.048) * (0.5 - 0.5 * sin(sight.lonLat.y));
  return base + vec3(0.05, 0.06, 0.075) * grid + vec3(0.06, 0.09, 0.13) * horizon;
}

${HEAT}
#if READING == DIFFERENCE
// Instead of pictures: two drawings of this window.
uniform sampler2D u_other;
uniform float u_scale;

const vec3 COLOURS[] = vec3[](${ERROR_COLOURS.map((color) => `vec3(${color})`)});

vec3 difference() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  vec3 apart = abs(texelFetch(u_picture, here, 0).rgb - texelFetch(u_other, here, 0).rgb);
  float warmth = min(u_scale * max(apart.r, max(apart.g, apart.b)), 1.0) * float(COLOURS.length() - 1);
  return mix(COLOURS[int(warmth)], COLOURS[int(ceil(warmth))], fract(warmth)) / 255.0;
}
#endif

vec3 seen(Sight sight) {
#if READING == NONE
  return emptySphere(sight);
#elif READING == DIFFERENCE
  return difference();
#elif defined(CUBE)
  float level = 0.0;
#if READING == AREAS
  vec3 ray = abs(sight.ray); // towards its corners a face has smaller texels
  float depth = max(ray.x, max(ray.y, ray.z)) / length(ray);
  level = max(log2(sight.footprint * 0.25 * u_sphere.y) - 1.5 * log2(depth), 0.0);
#endif
  return displayed(filtered(sight.ray, level), sight.ray);
#else
  vec2 uv = onSphere(sight);
#ifdef PARTIAL
  uv -= u_offset / u_sphere;
  uv.x = fract(uv.x); // a part may lie across the back
  uv *= u_sphere / vec2(textureSize(u_picture, 0));
#endif
#if READING == AREAS
  vec4 value = averaged(uv, sight);
#elif defined(TILES)
  Tile tile = tileAt(uv, u_depth.x);
  vec4 value;
  if (tile.layer < 0.0) value = filtered(uv, 0.0);
  else value = tilePoint(tile);
#else
  vec4 value = bilinear(uv);
#endif
  vec3 shown = displayed(value, uv);
#ifdef HEAT
  shown = heated(shown, uv, sight.lonLat.y);
#endif
#ifdef PARTIAL
  if (clamp(uv, 0.0, 1.0) != uv) shown = emptySphere(sight);
#endif
  return shown;
#endif
}

// A broken line along the back meridian of the seam view: the seam shows in its gaps.
float seamLine() {
  vec2 off = fromMiddle();
  return clamp(1.25 - abs(off.x), 0.0, 1.0) * step(fract(off.y / 18.0), 0.34);
}
`;

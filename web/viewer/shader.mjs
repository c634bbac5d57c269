/**
 * The one shader of the viewer: every window pixel casts a ray and looks it up in the equirectangular
 * picture.
 *
 * There is no sphere mesh and no texture coordinate that jumps at the back: the level of detail comes from
 * the ray itself, which is continuous everywhere, so neither the seam nor the poles show a line of their own.
 */

export const VERTEX_SHADER = `#version 300 es
void main() {
  // One triangle that covers the window: corners (-1,-1), (3,-1), (-1,3).
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

export const FRAGMENT_SHADER = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;

uniform sampler2D u_picture;
uniform bool u_hasPicture;
uniform bool u_fullSphere;   // the picture covers the sphere: rows continue across the poles
uniform bool u_wraps;        // the column after the last is the first
uniform vec2 u_sphere;       // size of the whole sphere in texels
uniform vec2 u_window;       // size of the window in pixels
uniform vec2 u_halfTangents; // of half the field of view, horizontal and vertical
uniform mat3 u_rotation;     // camera to world
out vec4 color;

const float PI = 3.141592653589793;
const vec3 NIGHT = vec3(0.055, 0.063, 0.078);

// A picture texel by column and row, continued over the edges as the sphere continues.
vec3 texel(ivec2 p, ivec2 size) {
  if (u_fullSphere && (p.y < 0 || p.y >= size.y)) {
    p = ivec2(p.x + size.x / 2, p.y < 0 ? -1 - p.y : 2 * size.y - 1 - p.y);
  }
  p.x = u_wraps ? (p.x + size.x) % size.x : clamp(p.x, 0, size.x - 1);
  p.y = clamp(p.y, 0, size.y - 1);
  vec4 value = texelFetch(u_picture, p, 0);
  return mix(NIGHT, value.rgb, value.a);
}

// Bilinear at level 0 in full float precision; graphics hardware rounds its own weights to 1/256.
vec3 bilinear(vec2 position, ivec2 size) {
  vec2 corner = floor(position);
  vec2 weight = position - corner;
  ivec2 p = ivec2(corner);
  vec3 upper = mix(texel(p, size), texel(p + ivec2(1, 0), size), weight.x);
  vec3 lower = mix(texel(p + ivec2(0, 1), size), texel(p + ivec2(1, 1), size), weight.x);
  return mix(upper, lower, weight.y);
}

// Distance to the nearest line of a grid, as the strength of an antialiased line.
float line(float angle, float spacing, float footprint) {
  float offset = abs(fract(angle / spacing + 0.5) - 0.5) * spacing;
  return 1.0 - smoothstep(0.6 * footprint, 1.6 * footprint, offset);
}

// What is drawn where there is no picture: a quiet globe grid every 15 degrees, the horizon a little
// brighter.
vec3 emptySphere(vec3 ray, float lon, float lat, float footprint) {
  float step15 = PI / 12.0;
  float around = line(lon, step15, footprint / max(cos(lat), 0.02)) * smoothstep(0.02, 0.2, cos(lat));
  float grid = max(around, line(lat, step15, footprint));
  float horizon = 1.0 - smoothstep(0.8 * footprint, 2.0 * footprint, abs(lat));
  vec3 base = NIGHT + vec3(0.030, 0.036, 0.048) * (0.5 - 0.5 * ray.y);
  return base + vec3(0.05, 0.06, 0.075) * grid + vec3(0.06, 0.09, 0.13) * horizon;
}

void main() {
  vec2 ndc = 2.0 * gl_FragCoord.xy / u_window - 1.0;
  vec3 ray = normalize(u_rotation * vec3(ndc * u_halfTangents, 1.0));
  float footprint = max(length(dFdx(ray)), length(dFdy(ray)));
  float lon = atan(ray.x, ray.z);
  float lat = atan(ray.y, length(ray.xz));

  ivec2 size = u_hasPicture ? textureSize(u_picture, 0) : ivec2(1);
  vec2 border = 0.5 * (u_sphere - vec2(size));
  vec2 position = vec2(lon / (2.0 * PI) + 0.5, 0.5 - lat / PI) * u_sphere - border;
  bool outside = any(lessThan(position, vec2(0.0))) || any(greaterThan(position, vec2(size)));
  if (!u_hasPicture || (!u_fullSphere && outside)) {
    color = vec4(emptySphere(ray, lon, lat, footprint), 1.0);
    return;
  }
  float level = log2(footprint * u_sphere.y / PI);
  if (level <= 0.0) {
    color = vec4(bilinear(position - 0.5, size), 1.0);
  } else {
    vec4 value = textureLod(u_picture, position / vec2(size), level);
    color = vec4(mix(NIGHT, value.rgb, value.a), 1.0);
  }
}`;

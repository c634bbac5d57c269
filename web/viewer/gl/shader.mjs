/**
 * The one shader of the viewer: every window pixel looks somewhere (gl/shader_rays.mjs) and shows what the
 * equirectangular picture has there (gl/shader_picture.mjs). There is no sphere mesh.
 *
 * It is built once for each *variant* that is needed: what a drawing does not use is left out, since software
 * renderers compute both sides of every branch.
 */

import { KINDS, pixelSize } from "../geometry/lens.mjs";
import { PICTURE } from "./shader_picture.mjs";
import { RAYS } from "./shader_rays.mjs";
import { TILES } from "./shader_tiles.mjs";

/** What PROJECTION and READING may be. */
const CHOICES = { bent: 0, ...KINDS, none: 0, points: 1, areas: 2, difference: 3 };

export const VERTEX_SHADER = `#version 300 es
void main() {
  // One triangle that covers the window: corners (-1,-1), (3,-1), (-1,3).
  gl_Position = vec4(4.0 * vec2(gl_VertexID == 1, gl_VertexID == 2) - 1.0, 0.0, 1.0);
}`;

const MAIN = `
uniform sampler2D u_mask;    // of the whole sphere

void main() {
  float perPixel = 2.0 * u_reach / u_window.x;
  Sight sight = sightAt(fromMiddle() * perPixel + u_centre, perPixel);
  float covered = clamp(sight.border + 0.5, 0.0, 1.0);
  vec3 value = seen(sight);
#if PROJECTION != BENT // that one has no border
  value = mix(NIGHT, value, covered);
#endif
#ifdef MASK
  float painted = textureLod(u_mask, onSphere(sight), 0.0).r;
  value = mix(value, vec3(1.0, 0.24, 0.42), 0.55 * painted * covered);
#endif
#ifdef SEAM_LINE
  value = mix(value, vec3(1.0, 0.78, 0.42), 0.85 * seamLine() * covered);
#endif
  color = vec4(value, 1.0);
}`;

/**
 * What a drawing needs of the shader, as a list of definitions; equal lists are the same variant.
 * Points are read where no window pixel is wider than a texel; in every mode the widest is in the middle.
 */
export function variantOf({ picture, lens, display, mask, difference }) {
  const tiles = picture?.tiles?.wanted.size; // otherwise its preview does
  const texels = (tiles ? picture.tiles : picture)?.sphere[1];
  const coarse = picture && display.smooth && pixelSize(lens) * texels > Math.PI;
  const flags = {
    ANISOTROPIC: coarse && picture.anisotropy > 1,
    PARTIAL: picture && !picture.full,
    OPEN: picture && !picture.wraps,
    CUBE: picture?.cube,
    TILES: tiles,
    TONE: display.exposureEv !== 0 || display.gamma !== 1,
    CHECKER: display.checker,
    CONTRAST: display.contrast,
    SEAM_LINE: display.seamLine,
    HEAT: picture && !picture.cube && display.heat,
    MASK: mask,
  };
  return [
    `PROJECTION ${lens.kind}`,
    `READING ${difference ? "DIFFERENCE" : coarse ? "AREAS" : picture ? "POINTS" : "NONE"}`,
    ...Object.keys(flags).filter((name) => flags[name]),
  ];
}

export function fragmentShader(variant) {
  const names = Object.entries(CHOICES).map(([name, value]) => `${name.toUpperCase()} ${value}`);
  return `#version 300 es
#define ${[...names, ...variant].join("\n#define ")}
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp samplerCube;
out vec4 color;
${RAYS}
${TILES}
${PICTURE}
${MAIN}`;
}

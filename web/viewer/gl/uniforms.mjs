/** What the shader's uniforms are in a drawing (see Renderer.shade). Only those are asked for that its variant reads. */

import { averageStep, heatLevel } from "./heat.mjs";

export const UNIFORMS = Object.freeze({
  u_window: ({ width, height }) => [width, height],
  u_reach: ({ lens }) => lens.reach,
  u_centre: ({ lens }) => lens.centre,
  u_turn: ({ lens }) => lens.turn,
  u_bend: ({ lens }) => lens.bend,
  u_rotation: ({ lens }) => lens.rotation.flat(),
  u_picture: ({ picture, difference }) => (difference ? difference.drawings[0] : picture),
  u_wraps: ({ picture }) => picture.wraps,
  u_sphere: ({ picture }) => picture.sphere,
  u_offset: ({ picture }) => picture.offset,
  u_anisotropy: ({ picture }) => picture.anisotropy,
  u_exposure: ({ display }) => 2 ** display.exposureEv,
  u_gamma: ({ display }) => display.gamma,
  u_level: ({ picture, lens }) => heatLevel(picture, lens),
  u_average: ({ gl, picture, lens }) => averageStep(gl, picture, heatLevel(picture, lens)),
  u_mask: ({ mask }) => mask,
  u_other: ({ difference }) => difference.drawings[1],
  u_scale: ({ difference }) => difference.scale,
  u_tiles: ({ picture }) => picture.tiles.pool.handle,
  u_table: ({ picture }) => picture.tiles.handle,
  "u_levels[0]": ({ picture: { tiles } }) => tiles.levels.flatMap((size, index) => [...size, tiles.firstRows[index]]),
  u_depth: ({ picture: { tiles } }) => [tiles.least, tiles.levels.length],
});

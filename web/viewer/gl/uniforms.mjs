/** From a lens, a picture and display settings to the shader's uniforms. */

export const UNIFORMS = Object.freeze([
  "u_window", "u_reach", "u_centre", "u_turn", "u_bend", "u_rotation",
  "u_picture", "u_wraps", "u_sphere", "u_offset",
  "u_anisotropy", "u_exposure", "u_gamma", "u_mask", "u_level", "u_average", "u_other", "u_scale",
  "u_tiles", "u_table", "u_levels", "u_depth",
]);

export function setLens(gl, at, lens, width, height) {
  gl.uniform2f(at.u_window, width, height);
  gl.uniform1f(at.u_reach, lens.reach);
  gl.uniform2fv(at.u_centre, lens.centre);
  gl.uniform2fv(at.u_turn, lens.turn);
  gl.uniform2fv(at.u_bend, lens.bend);
  gl.uniformMatrix3fv(at.u_rotation, true, lens.rotation.flat()); // rows, hence transposed
}

/** `picture` is a handle of the renderer or null. */
export function setPicture(gl, at, picture) {
  gl.activeTexture(gl.TEXTURE0);
  if (picture) gl.bindTexture(picture.target, picture.texture);
  gl.uniform1i(at.u_picture, 0);
  gl.uniform1i(at.u_wraps, picture?.wraps ? 1 : 0);
  gl.uniform2fv(at.u_sphere, picture ? picture.sphere : [2, 1]);
  gl.uniform2fv(at.u_offset, picture ? picture.offset : [0, 0]);
  gl.uniform1f(at.u_anisotropy, picture ? picture.anisotropy : 1);
}

export function setDisplay(gl, at, display) {
  gl.uniform1f(at.u_exposure, 2 ** display.exposureEv);
  gl.uniform1f(at.u_gamma, display.gamma);
}

export function setMask(gl, at, mask) {
  gl.activeTexture(gl.TEXTURE1);
  gl.bindTexture(gl.TEXTURE_2D, mask.texture);
  gl.uniform1i(at.u_mask, 1);
  gl.activeTexture(gl.TEXTURE0);
}

/** Of two drawings kept by the renderer, in place of a picture. */
export function setDifference(gl, at, { drawings: [one, other], scale }) {
  gl.activeTexture(gl.TEXTURE2);
  gl.bindTexture(gl.TEXTURE_2D, other.texture);
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(gl.TEXTURE_2D, one.texture);
  gl.uniform1i(at.u_other, 2);
  gl.uniform1f(at.u_scale, scale);
}

export function setTiles(gl, at, { pool, handle, levels, firstRows, least }) {
  gl.activeTexture(gl.TEXTURE6);
  gl.bindTexture(gl.TEXTURE_2D_ARRAY, pool.handle.texture);
  gl.uniform1i(at.u_tiles, 6);
  gl.activeTexture(gl.TEXTURE7);
  gl.bindTexture(gl.TEXTURE_2D, handle.texture);
  gl.uniform1i(at.u_table, 7);
  gl.uniform3fv(at.u_levels, levels.flatMap((size, index) => [...size, firstRows[index]]));
  gl.uniform2i(at.u_depth, least, levels.length);
  gl.activeTexture(gl.TEXTURE0);
}

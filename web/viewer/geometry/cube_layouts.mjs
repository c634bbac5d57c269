/**
 * Cubemaps laid flat: which face lies where. A face is 2 units wide, the middle of face F is the origin, x goes
 * right and y up.
 */

import { clamp, dot } from "./projection.mjs";

/** Normal, right and up of the faces F, R, B, L, U, D. */
export const FACE_FRAMES = [
  [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
  [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
  [[0, 0, -1], [-1, 0, 0], [0, 1, 0]],
  [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
  [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
  [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
];

/** (column, row) of the faces F, R, B, L, U, D: columns to the right of F, rows above it. */
export const CELLS = {
  cubemap_cross: [[0, 0], [1, 0], [2, 0], [-1, 0], [0, 1], [0, -1]],
  cubemap_3x2: [[0, 0], [1, 0], [2, 0], [0, -1], [1, -1], [2, -1]],
};

/** The rectangles of cells that a layout consists of: [first, last] of their columns and of their rows. */
const BLOCKS = {
  cubemap_cross: [[[-1, 2], [0, 0]], [[0, 0], [-1, 1]]],
  cubemap_3x2: [[[0, 2], [-1, 0]]],
};

/** [first, last] of a layout's columns (axis 0) or rows (axis 1). */
function extent(layout, axis) {
  const at = CELLS[layout].map((cell) => cell[axis]);
  return [Math.min(...at), Math.max(...at)];
}

/** The field of view at which a window holds the whole layout; 90° is one face. */
export function layoutFovDeg(layout, width, height) {
  const [[left, right], [low, high]] = [extent(layout, 0), extent(layout, 1)];
  return 90 * Math.max(right - left + 1, ((high - low + 1) * width) / height);
}

/** The point in the middle of the window: the layout's middle when all of it is seen, face F when close. */
export function layoutCentre(layout, fovDeg, width, height) {
  const share = (fovDeg - 90) / (layoutFovDeg(layout, width, height) - 90);
  return [0, 1].map((axis) => {
    const [first, last] = extent(layout, axis);
    return clamp(share, 0, 1) * (first + last);
  });
}

/** Ray of the camera (not normalised) at a point of the layout, and the distance inside its border. */
export function layoutRay(layout, ...point) {
  const insides = BLOCKS[layout].map((block) => Math.min(...point.flatMap((value, axis) => {
    const [first, last] = block[axis];
    return [value + 1 - 2 * first, 2 * last + 1 - value];
  })));
  const border = Math.max(...insides);
  const block = BLOCKS[layout][insides.indexOf(border)];
  const at = point.map((value, axis) => clamp(Math.floor((value + 1) / 2), ...block[axis]));
  const face = CELLS[layout].findIndex((cell) => String(cell) === String(at));
  const [normal, right, up] = FACE_FRAMES[face];
  const [u, v] = point.map((value, axis) => value - 2 * at[axis]);
  return { ray: normal.map((value, axis) => value + u * right[axis] + v * up[axis]), border };
}

/** The point of the layout that shows a ray of the camera. */
export function layoutPoint(layout, ray) {
  const depths = FACE_FRAMES.map(([normal]) => dot(normal, ray));
  const depth = Math.max(...depths);
  // On an edge the first of F B, R L, U D has it, as in the core.
  const face = [0, 2, 1, 3, 4, 5].find((index) => depths[index] === depth);
  const [, ...axes] = FACE_FRAMES[face];
  return CELLS[layout][face].map((cell, axis) => 2 * cell + dot(axes[axis], ray) / depth);
}

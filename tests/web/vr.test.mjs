import assert from "node:assert/strict";
import test from "node:test";

import { createLens } from "../../web/viewer/geometry/lens.mjs";
import { rotate } from "../../web/viewer/geometry/projection.mjs";
import { eyeLens } from "../../web/viewer/gl/vr.mjs";

const UNTURNED = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/** As WebXR gives it, by columns: tangents of the four half angles. */
function projection(left, right, bottom, top) {
  const matrix = new Array(16).fill(0);
  matrix[0] = 2 / (left + right);
  matrix[5] = 2 / (bottom + top);
  matrix[8] = (right - left) / (left + right);
  matrix[9] = (top - bottom) / (bottom + top);
  matrix[10] = matrix[11] = -1;
  return matrix;
}

/** The direction that the shader finds for a pixel of the framebuffer, counted from its lower left corner. */
function direction(lens, column, row) {
  const step = (2 * lens.reach) / lens.width;
  const x = (column - lens.width / 2) * step + lens.centre[0];
  const y = (row - lens.height / 2) * step + lens.centre[1];
  return rotate(lens.rotation, [x, y, 1]);
}

const tangents = ([x, y, z]) => [x / z, y / z];
const close = (one, other) => one.forEach((value, index) => assert.ok(Math.abs(value - other[index]) < 1e-12, `${one} ${other}`));

test("a symmetric eye is the viewer's own perspective", () => {
  const viewport = { x: 0, y: 0, width: 160, height: 96 };
  const half = Math.tan((35 * Math.PI) / 180);
  const lens = eyeLens(projection(half, half, 0.6 * half, 0.6 * half), UNTURNED, viewport, 33);
  const own = createLens("perspective", { yawDeg: 33, pitchDeg: 0, rollDeg: 0, fovDeg: 70 }, 160, 96);
  for (const name of ["kind", "width", "height"]) assert.equal(lens[name], own[name]);
  for (const name of ["bend", "turn", "centre"]) close(lens[name], own[name]);
  close([lens.reach, ...lens.rotation.flat()], [own.reach, ...own.rotation.flat()]);
});

test("the corners of an eye off the axis, of pixels that are not square, see its four angles", () => {
  const viewport = { x: 300, y: 20, width: 200, height: 400 };
  const lens = eyeLens(projection(1.2, 0.8, 1.1, 0.9), UNTURNED, viewport, 0);
  close(tangents(direction(lens, 300, 20)), [-1.2, -1.1]);
  close(tangents(direction(lens, 500, 420)), [0.8, 0.9]);
});

test("a head that turns left, as WebXR says it, looks left from where the viewer looked", () => {
  const angle = Math.PI / 6;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const left = [cos, 0, -sin, 0, 0, 1, 0, 0, sin, 0, cos, 0, 0, 0, 0, 1];
  const lens = eyeLens(projection(1, 1, 1, 1), left, { x: 0, y: 0, width: 64, height: 64 }, 90);
  close(direction(lens, 32, 32), [Math.sin(Math.PI / 3), 0, Math.cos(Math.PI / 3)]);
});

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { createLens, windowToDirection } from "../../web/viewer/geometry/lens.mjs";
import {
  cameraRotation, compassPoint, coverage, directionToLonLat, formatDegrees, lonLatToDirection,
  lonLatToPixel, pixelToLonLat, wrapDegrees,
} from "../../web/viewer/geometry/projection.mjs";

const vectors = JSON.parse(await readFile(new URL("./vectors.json", import.meta.url), "utf8"));
const TOLERANCE = 1e-9;

const perspectiveDirection = (x, y, width, height, pose) =>
  windowToDirection(createLens("perspective", pose, width, height), x, y);

function close(actual, expected, what, tolerance = TOLERANCE) {
  const flat = [actual, expected].map((value) => [value].flat(2));
  assert.equal(flat[0].length, flat[1].length);
  flat[0].forEach((value, index) => {
    const error = Math.abs(value - flat[1][index]);
    assert.ok(error <= tolerance, `${what}: ${value} instead of ${flat[1][index]}`);
  });
}

test("camera rotations are the core's", () => {
  assert.ok(vectors.rotation.length >= 6);
  for (const { angles, matrix } of vectors.rotation) {
    close(cameraRotation(...angles), matrix, `rotation ${angles}`);
  }
});

test("perspective rays and their picture positions are the core's", () => {
  assert.ok(vectors.perspective.length >= 30);
  for (const { window, pose, pixel, direction, lonlat, position } of vectors.perspective) {
    const what = `${JSON.stringify(pose)} pixel ${pixel}`;
    const ray = perspectiveDirection(pixel[0] + 0.5, pixel[1] + 0.5, ...window, pose);
    close(ray, direction, what);
    const [lon, lat] = directionToLonLat(ray);
    close(lat, lonlat[1], what);
    close(Math.sin(lon - lonlat[0]), 0, what, 1e-7); // the same longitude, −π being π
    const [column, row] = lonLatToPixel(...lonlat, 1024, 512);
    close([column, row], position, what);
  }
});

test("a half pixel shift is not within the tolerance", () => {
  const { window, pose, pixel, direction } = vectors.perspective[0];
  const ray = perspectiveDirection(pixel[0], pixel[1], ...window, pose);
  assert.ok(Math.abs(ray[0] - direction[0]) > 1e4 * TOLERANCE);
});

test("pixel centres of equirectangular pictures are the core's", () => {
  for (const { size, pixel, lonlat, direction } of vectors.sphere) {
    close(pixelToLonLat(...pixel, ...size), lonlat, `pixel ${pixel}`);
    close(lonLatToDirection(...lonlat), direction, `pixel ${pixel}`);
    close(lonLatToPixel(...lonlat, ...size), pixel, `pixel ${pixel}`);
    close(directionToLonLat(direction), lonlat, `pixel ${pixel}`);
  }
});

test("the middle is forward, right of it is yaw to the right, up is pitch up", () => {
  const pose = { fovDeg: 90, yawDeg: 0, pitchDeg: 0, rollDeg: 0 };
  const centre = (turned) => perspectiveDirection(5, 5, 10, 10, { ...pose, ...turned });
  close(centre({}), [0, 0, 1], "forward");
  close(centre({ yawDeg: 90 }), [1, 0, 0], "right");
  close(centre({ pitchDeg: 90 }), [0, 1, 0], "up");
  const right = perspectiveDirection(10, 5, 10, 10, pose);
  close(right, [Math.SQRT1_2, 0, Math.SQRT1_2], "the right edge at 90° of view is 45° to the right");
});

test("pictures that are not 2:1 lie on the sphere unstretched", () => {
  const sphere = [2000, 1000];
  assert.deepEqual(coverage(2000, 1000), { full: true, wraps: true, sphere, offset: [0, 0] });
  assert.deepEqual(coverage(2000, 500), { full: false, wraps: true, sphere, offset: [0, 250] });
  assert.deepEqual(coverage(1000, 1000), { full: false, wraps: false, sphere, offset: [500, 0] });
  const crop = { left: 300, top: 100, width: 1000, height: 400, fullWidth: 4000, fullHeight: 2000 };
  assert.deepEqual(coverage(500, 200, crop), { full: false, wraps: false, sphere, offset: [150, 50] });
  assert.deepEqual(coverage(2000, 200, { ...crop, left: 0, width: 4000 }).wraps, true);
});

test("angles are wrapped and written as people read them", () => {
  assert.equal(wrapDegrees(180), 180);
  assert.equal(wrapDegrees(-540), 180);
  assert.equal(wrapDegrees(725), 5);
  assert.equal(formatDegrees(-0.04), "0.0°");
  assert.equal(formatDegrees(-12.34), "−12.3°");
  assert.deepEqual([0, 44, 91, 179, -179, -90].map(compassPoint), ["F", "FR", "R", "B", "B", "L"]);
});

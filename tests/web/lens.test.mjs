import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { CELLS, layoutFovDeg } from "../../web/viewer/geometry/cube_layouts.mjs";
import { dragTurn } from "../../web/viewer/motion/dragging.mjs";
import {
  blendLenses, canBlend, createLens, directionToWindow, lookThrough, pixelSize, windowToDirection, windowToLonLat,
} from "../../web/viewer/geometry/lens.mjs";
import { MODES, MODE_NAMES, homePose, keyOf, limitsOf, modeOfKey } from "../../web/viewer/geometry/modes.mjs";

const { modes, cases } = JSON.parse(
  await readFile(new URL("../vectors/viewer/views.json", import.meta.url), "utf8"),
);
const TOLERANCE = 1e-9;

function close(actual, expected, what, tolerance = TOLERANCE) {
  [actual].flat().forEach((value, index) => {
    const error = Math.abs(value - [expected].flat()[index]);
    assert.ok(error <= tolerance, `${what}: ${actual} instead of ${expected}`);
  });
}

const poseOf = (one) =>
  ({ yawDeg: one.yaw_deg, pitchDeg: one.pitch_deg, rollDeg: one.roll_deg, fovDeg: one.fov_deg });
const lensOf = (one) => createLens(one.mode, poseOf(one), one.width, one.height);

test("the modes are the core's", () => {
  assert.deepEqual(MODE_NAMES, Object.keys(modes));
  for (const [name, { projection, yaw_deg, pitch_deg, bend, cells }] of Object.entries(modes)) {
    assert.equal(MODES[name].projection, projection);
    assert.equal(MODES[name].yawDeg ?? null, yaw_deg);
    assert.equal(MODES[name].pitchDeg ?? null, pitch_deg);
    const lens = createLens(name, { yawDeg: 0, pitchDeg: 0, rollDeg: 0, fovDeg: 60 }, 2, 1);
    if (bend) assert.deepEqual(lens.bend, bend);
    if (cells) assert.deepEqual(CELLS[projection], cells);
  }
});

test("every pixel looks where the core says, and is covered as much", () => {
  assert.equal(cases.length, 200);
  for (const one of cases) {
    for (const { pixel, covered, direction } of one.points) {
      const found = lookThrough(lensOf(one), pixel[0] + 0.5, pixel[1] + 0.5);
      close(found.covered, covered, JSON.stringify(one), 1e-7);
      if (direction) close(found.direction, direction, JSON.stringify(one));
    }
  }
});

test("half a pixel of shift is not within the tolerance", () => {
  for (const one of cases) {
    const { pixel, direction } = one.points[0];
    if (!direction) continue;
    const found = lookThrough(lensOf(one), pixel[0] + 1, pixel[1] + 1).direction;
    const error = Math.max(...found.map((value, axis) => Math.abs(value - direction[axis])));
    assert.ok(error > 1e4 * TOLERANCE, JSON.stringify(one));
  }
});

test("directions come back to their window position", () => {
  let tested = 0;
  for (const one of cases) {
    const lens = lensOf(one);
    for (const { pixel } of one.points) {
      const [x, y] = [pixel[0] + 0.5, pixel[1] + 0.5];
      const direction = windowToDirection(lens, x, y);
      if (!direction) {
        assert.equal(windowToLonLat(lens, x, y), null);
        continue;
      }
      tested += 1;
      close(directionToWindow(lens, direction), [x, y], JSON.stringify(one), 1e-5);
    }
  }
  assert.ok(tested > 450, `${tested}`);
});

test("what a lens does not hold has no position", () => {
  const pose = { yawDeg: 0, pitchDeg: 0, rollDeg: 0, fovDeg: 90 };
  assert.equal(directionToWindow(createLens("perspective", pose, 10, 10), [0, 0, -1]), null);
  assert.equal(directionToWindow(createLens("fisheye", pose, 10, 10), [0.6, 0, -0.8]), null);
  assert.ok(directionToWindow(createLens("planet", pose, 10, 10), [0.6, 0, -0.8]));
  assert.equal(windowToDirection(createLens("fisheye", { ...pose, fovDeg: 300 }, 10, 10), 0.5, 0.5), null);
});

test("in every mode but the cubemaps the middle shows yaw and pitch", () => {
  for (const mode of MODE_NAMES.filter((name) => !name.startsWith("cubemap"))) {
    const pose = { yawDeg: 40, pitchDeg: -25, rollDeg: 10, fovDeg: 80 };
    const [lon, lat] = windowToLonLat(createLens(mode, pose, 30, 20), 15, 10);
    const { yawDeg = 40, pitchDeg = -25 } = MODES[mode];
    close(lat, (pitchDeg * Math.PI) / 180, mode);
    if (Math.abs(pitchDeg) < 90) close(Math.sin(lon - (yawDeg * Math.PI) / 180), 0, mode);
  }
});

test("between two lenses the way is even and ends at both", () => {
  const [from, to] = [
    createLens("perspective", { yawDeg: 170, pitchDeg: 0, rollDeg: 0, fovDeg: 90 }, 160, 90),
    createLens("planet", { yawDeg: -170, pitchDeg: -90, rollDeg: 0, fovDeg: 270 }, 160, 90),
  ];
  assert.ok(canBlend(from, to) && !canBlend(from, createLens("flat", homePose("flat", 160, 90), 160, 90)));
  for (const [share, lens] of [[0, from], [1, to]]) {
    const blended = blendLenses(from, to, share);
    for (const [x, y] of [[80, 45], [3, 7], [150, 80]]) {
      close(windowToDirection(blended, x, y), windowToDirection(lens, x, y), `${share}`);
    }
  }
  const half = blendLenses(from, to, 0.5);
  assert.deepEqual(half.bend, [0.5, 0.5]);
  close(half.angles[0], 180, "the short way around");
  close(half.reach ** 2, from.reach * to.reach, "an even zoom");
});

test("homes are within the limits; whole pictures fit their window", () => {
  for (const mode of MODE_NAMES) {
    for (const [width, height] of [[480, 380], [1920, 1080], [300, 700], [200, 200]]) {
      const [home, { fov, pitch }] = [homePose(mode, width, height), limitsOf(mode, width, height)];
      assert.ok(fov[0] < home.fovDeg && home.fovDeg <= fov[1], `${mode} ${width}x${height} ${home.fovDeg}`);
      const [low, high] = pitch(home.fovDeg);
      assert.ok(low <= home.pitchDeg && home.pitchDeg <= high);
    }
  }
  close(homePose("flat", 1000, 500).fovDeg, 360, "flat");
  close(homePose("flat", 1000, 250).fovDeg, 720, "flat in a wide window");
  close(limitsOf("flat", 1000, 500).pitch(180), [-45, 45], "half as wide: 45° up and down");
  close(limitsOf("flat", 1000, 500).pitch(360), [0, 0], "the whole picture has no room");
  close(limitsOf("perspective", 400, 300).fov[1], 120, "a flat plane");
  close(limitsOf("perspective", 200, 600).fov[1], 2 * Math.atan(Math.tan((62.5 * Math.PI) / 180) / 3) * (180 / Math.PI), "125° high");
  close(layoutFovDeg("cubemap_cross", 400, 300), 360, "cross");
  close(layoutFovDeg("cubemap_3x2", 600, 400), 270, "3 × 2");
});

test("a little planet's horizon is a circle inside the window", () => {
  for (const [width, height] of [[480, 380], [300, 700]]) {
    const lens = createLens("planet", homePose("planet", width, height), width, height);
    const radii = [0, 1, 2, 3].map((lon) => {
      const [x, y] = directionToWindow(lens, [Math.sin(lon), 0, Math.cos(lon)]);
      return Math.hypot(x - width / 2, y - height / 2) / (Math.min(width, height) / 2);
    });
    close(radii, [0.7, 0.7, 0.7, 0.7], "radius");
  }
});

test("ten modes, ten keys", () => {
  assert.equal(MODE_NAMES.map(keyOf).join(""), "1234567890");
  for (const mode of MODE_NAMES) assert.equal(modeOfKey(keyOf(mode)), mode);
  assert.equal(modeOfKey("x"), undefined);
  assert.equal(modeOfKey(undefined), undefined);
});

test("what a hand holds stays under it, in every mode that can", () => {
  for (const mode of ["perspective", "flat", "fisheye", "pannini", "cubemap_cross", "cubemap_3x2"]) {
    const pose = { ...homePose(mode, 400, 300), yawDeg: 20, pitchDeg: mode === "flat" ? 0 : 10 };
    if (mode === "flat") pose.fovDeg = 150;
    const [before, after] = mode.startsWith("cubemap") ? [[130, 140], [139, 146]] : [[150, 140], [159, 146]];
    const held = windowToDirection(createLens(mode, pose, 400, 300), ...before);
    const [yaw, pitch] = dragTurn(mode, pose, 400, 300, before, after);
    const turned = { ...pose, yawDeg: pose.yawDeg + yaw, pitchDeg: pose.pitchDeg + pitch };
    close(directionToWindow(createLens(mode, turned, 400, 300), held), after, mode, 0.05);
    assert.ok(yaw < 0 && pitch > 0, `${mode}: to the right and down turns left and up`);
  }
});

test("a hand spins zenith, nadir and planets around their pole", () => {
  for (const [mode, sign] of [["zenith", 1], ["nadir", -1], ["planet", -1]]) {
    const pose = homePose(mode, 400, 400);
    // A quarter turn around the middle, counterclockwise on the screen, in small steps.
    let turned = { ...pose };
    const at = (angle) => [200 + 100 * Math.cos(angle), 200 - 100 * Math.sin(angle)];
    for (let step = 0; step < 50; step += 1) {
      const [yaw, pitch] = dragTurn(mode, turned, 400, 400, at(step * Math.PI / 100), at((step + 1) * Math.PI / 100));
      const [low, high] = limitsOf(mode, 400, 400).pitch(turned.fovDeg);
      turned = {
        ...turned, yawDeg: turned.yawDeg + yaw,
        pitchDeg: Math.min(Math.max(turned.pitchDeg + pitch, low), high),
      };
    }
    const expected = sign * -90;
    assert.ok(Math.abs(turned.yawDeg - expected) < 12, `${mode}: ${turned.yawDeg} instead of ${expected}`);
  }
});

test("no movement of a hand turns wildly, near a pole neither, nor over the borders of a flat picture and of faces", () => {
  const places = [[200, 150], [201, 150], [20, 20], [390, 150], [200, 5]];
  for (let x = -40; x <= 440; x += 13) for (let y = -30; y <= 330; y += 17) places.push([x, y]);
  for (const mode of MODE_NAMES) {
    for (const pitchDeg of [0, 60, 89, 90, -90]) {
      const pose = { ...homePose(mode, 400, 300), pitchDeg };
      const perPixel = pixelSize(createLens(mode, pose, 400, 300)) * (180 / Math.PI);
      for (const [x, y] of places) {
        for (const [right, down] of [[5, -3], [-5, 0]]) {
          const turn = dragTurn(mode, pose, 400, 300, [x, y], [x + right, y + down]);
          for (const angle of turn) {
            assert.ok(Math.abs(angle) <= 30 * perPixel * 5, `${mode} ${pitchDeg} ${x},${y}: ${turn}`);
          }
        }
      }
    }
  }
});

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { createLens, lookThrough } from "../../web/viewer/geometry/lens.mjs";
import { MODE_NAMES } from "../../web/viewer/geometry/modes.mjs";
import { directionToLonLat, lonLatToPixel } from "../../web/viewer/geometry/projection.mjs";
import { TILE, tilesSeen } from "../../web/viewer/geometry/tiles_seen.mjs";

const { cases } = JSON.parse(await readFile(new URL("../vectors/viewer/views.json", import.meta.url), "utf8"));
const pyramidOf = (...sizes) => ({ levels: sizes, sphere: sizes[0], offset: [0, 0] });
const LARGE = pyramidOf([16384, 8192], [8192, 4096], [4096, 2048]);
const ODD = pyramidOf([5002, 2501], [2500, 1250]);

/** What the window's pixels really read: the tiles of the finest level that each is near to. */
function tilesRead(lens, { levels, sphere }, smooth) {
  const read = new Set();
  for (let y = 0.5; y < lens.height; y += 5) {
    for (let x = 0.5; x < lens.width; x += 5) {
      const [here, right, down] = [[0, 0], [1, 0], [0, 1]].map(([i, j]) => lookThrough(lens, x + i, y + j));
      if (here.covered === 0) continue;
      const apart = [right, down].map((next) => Math.hypot(...next.direction.map((v, axis) => v - here.direction[axis])));
      // On a flat picture the shader measures in longitude.
      const footprint = lens.projection === "equirectangular" ? (2 * lens.reach) / lens.width : Math.max(...apart);
      const level = smooth ? Math.max(0, Math.floor(Math.log2((footprint * sphere[1]) / Math.PI))) : 0;
      if (level >= levels.length) continue;
      const [width, height] = levels[level];
      const [column, row] = lonLatToPixel(...directionToLonLat(here.direction), width, height);
      const cell = [[column, width], [row, height]].map(([at, side]) =>
        Math.floor(Math.min(Math.max(at + 0.5, 0), side - 1) / TILE));
      read.add(`${level}_${cell.join("_")}`);
    }
  }
  return read;
}

test("every tile that a pixel reads is found, in every mode and pose", () => {
  assert.equal(cases.length, 20 * MODE_NAMES.length);
  let [found, needed] = [0, 0];
  for (const one of cases) {
    const pose = { yawDeg: one.yaw_deg, pitchDeg: one.pitch_deg, rollDeg: one.roll_deg, fovDeg: one.fov_deg };
    for (const [pyramid, smooth] of [[LARGE, true], [ODD, false]]) {
      const lens = createLens(one.mode, pose, 4 * one.width, 4 * one.height);
      const [seen, read] = [[...tilesSeen(lens, pyramid, smooth)], tilesRead(lens, pyramid, smooth)];
      const missing = [...read].filter((tile) => !seen.includes(tile));
      assert.deepEqual(missing, [], `${one.mode} ${JSON.stringify(pose)}`);
      [found, needed] = [found + seen.length, needed + read.size];
    }
  }
  assert.ok(needed > 1500 && found < 1.4 * needed, `${found} of ${needed}`);
});

test("a window reads the level that it is as fine as, and no other", () => {
  const lens = (fovDeg, yawDeg = 5, pitchDeg = 3) =>
    createLens("perspective", { yawDeg, pitchDeg, rollDeg: 0, fovDeg }, 1280, 720);
  const home = [...tilesSeen(lens(90), LARGE, true)];
  assert.ok(home.every((tile) => /^[12]_/.test(tile)) && home.length <= 20, home.join());
  const close = [...tilesSeen(lens(20), LARGE, true)];
  assert.ok(close.includes("0_8_3") && close.every((tile) => tile.startsWith("0_")), close.join());
  assert.equal(tilesSeen(lens(90), LARGE, true, 3).size, 0);
  const behind = [...tilesSeen(lens(30, 180), LARGE, true)];
  assert.ok(behind.includes("0_0_3") && behind.includes("0_15_3"));
  const pole = [...tilesSeen(lens(20, 0, 90), LARGE, true)];
  assert.equal(pole.filter((tile) => /^0_\d+_0$/.test(tile)).length, 16);
  assert.equal(pole.length, 16);
});

test("pictures of a part of the sphere are looked for where they lie", () => {
  const strip = { levels: [[6000, 1500], [3000, 750]], sphere: [6000, 3000], offset: [0, 750] };
  const down = createLens("perspective", { yawDeg: 0, pitchDeg: -80, rollDeg: 0, fovDeg: 20 }, 800, 600);
  assert.equal(tilesSeen(down, strip, true).size, 0);
  const front = createLens("perspective", { yawDeg: 2, pitchDeg: 0, rollDeg: 0, fovDeg: 20 }, 800, 600);
  assert.ok(tilesSeen(front, strip, true).has("0_2_0"));
  const tall = { levels: [[3000, 5000]], sphere: [10000, 5000], offset: [3500, 0] };
  const back = createLens("perspective", { yawDeg: 180, pitchDeg: 0, rollDeg: 0, fovDeg: 20 }, 800, 600);
  assert.equal(tilesSeen(back, tall, true).size, 0);
  assert.deepEqual([...tilesSeen(front, tall, true)].sort(), ["0_1_2"]);
});

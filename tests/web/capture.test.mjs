import assert from "node:assert/strict";
import test from "node:test";

import { isCameraView, pictureLength, pictureSize, roundedPose } from "../../web/viewer/picture/capture.mjs";
import { createLens } from "../../web/viewer/geometry/lens.mjs";
import { MODE_NAMES } from "../../web/viewer/geometry/modes.mjs";
import { inputOf, writeValues } from "../../web/viewer/node/values.mjs";
import { EN } from "../../web/viewer/texts/en.mjs";
import { useTexts } from "../../web/viewer/texts/text.mjs";

useTexts(EN);

test("pictures are multiples of 8 in the window's proportions, nearly always within half a pixel", () => {
  let [furthest, total, close] = [0, 0, 0];
  for (let width = 320; width <= 1920; width += 37) {
    for (let height = 200; height <= 1200; height += 29) {
      for (const length of [768, 1024, 2048]) {
        const [w, h] = pictureSize(width, height, length);
        assert.ok(w % 8 === 0 && h % 8 === 0);
        const off = width >= height ? h - (w * height) / width : w - (h * width) / height;
        assert.ok(Math.abs(off) <= 4, `${width} x ${height} at ${length}: ${w} x ${h} is ${off} off`);
        total += 1;
        close += Math.abs(off) <= 0.5 + 1e-9 ? 1 : 0;
        furthest = Math.max(furthest, Math.abs(Math.max(w, h) / length - 1));
      }
    }
  }
  assert.ok(furthest <= 1 / 8 + 1e-9, `${furthest}`);
  assert.ok(close > 0.95 * total, `${close} of ${total}`);
});

test("the size is the one asked for where that fits, and never beyond what the node takes", () => {
  assert.deepEqual(pictureSize(800, 400, 1024), [1024, 512]);
  assert.deepEqual(pictureSize(400, 800, 1024), [512, 1024]);
  assert.deepEqual(pictureSize(640, 640, 512), [512, 512]);
  assert.deepEqual(pictureSize(1600, 900, 768), [768, 432]);
  const [width, height] = pictureSize(1000, 700, 30_000);
  assert.ok(width <= 8192 && width > 7000 && height % 8 === 0);
  assert.equal(pictureSize(4000, 3, 64)[1], 8);
});

test("as fine as the panorama: in the middle a pixel of the picture is a pixel of the panorama", () => {
  const pose = { yawDeg: 0, pitchDeg: 0, rollDeg: 0, fovDeg: 90 };
  const wide = createLens("perspective", pose, 800, 400);
  assert.ok(Math.abs(pictureLength("full", wide, 8192) - 8192 / Math.PI) < 1e-6);
  const tall = createLens("perspective", pose, 400, 800);
  assert.ok(Math.abs(pictureLength("full", tall, 8192) - (2 * 8192) / Math.PI) < 1e-6);
  const flat = createLens("flat", { ...pose, fovDeg: 360 }, 800, 400);
  assert.ok(Math.abs(pictureLength("full", flat, 8192) - 8192) < 1e-6);
  assert.equal(pictureLength("window", tall, 8192), 800);
  assert.equal(pictureLength("1536", tall, 8192), 1536);
});

test("views with a flat lens can be captured, in tenths of a degree", () => {
  assert.deepEqual(MODE_NAMES.filter(isCameraView), ["perspective", "zenith", "nadir"]);
  assert.deepEqual(roundedPose({ yawDeg: -12.345, fovDeg: 89.96 }), { yawDeg: -12.3, fovDeg: 90 });
});

test("values go to widgets by name; wires that overrule them are told", () => {
  const node = {
    widgets: [{ name: "panorama" }, { name: "width", value: 1 }, { name: "height", value: 2 }],
    inputs: [{ name: "panorama" }, { name: "height" }],
    isInputConnected: (slot) => slot === 1,
  };
  assert.deepEqual(writeValues(node, { width: 30, height: 20 }), ["height"]);
  assert.deepEqual(["width", "height"].map((name) => inputOf(node, name).value), [30, 20]);
  assert.throws(() => writeValues(node, { depth: 1 }), /no input “depth”/);
});

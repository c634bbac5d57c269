import assert from "node:assert/strict";
import test from "node:test";

import { figuresOf, largestOf, pixelAt } from "../../web/viewer/panel/measures.mjs";
import { pixelToLonLat } from "../../web/viewer/geometry/projection.mjs";
import { EN } from "../../web/viewer/texts/en.mjs";
import { useTexts } from "../../web/viewer/texts/text.mjs";

useTexts(EN);

const FULL = { size: [64, 32], sphere: [64, 32], offset: [0, 0], around: 64 };

test("every pixel's middle is that pixel", () => {
  for (const [column, row] of [[0, 0], [63, 0], [0, 31], [63, 31], [17, 9]]) {
    assert.deepEqual(pixelAt(pixelToLonLat(column, row, 64, 32), FULL), [[column, row], [column, row]]);
  }
});

test("the last edges belong to the last pixels", () => {
  assert.deepEqual(pixelAt([Math.PI, -Math.PI / 2], FULL)[0], [63, 31]);
  assert.deepEqual(pixelAt([-Math.PI, Math.PI / 2], FULL)[0], [0, 0]);
});

test("a smaller texture still names the picture's own pixels", () => {
  const place = pixelToLonLat(101, 43, 256, 128);
  assert.deepEqual(pixelAt(place, { ...FULL, around: 256 }), [[25, 10], [101, 43]]);
});

test("a picture of a part of the sphere begins at its own corner and ends", () => {
  const part = { size: [48, 32], sphere: [64, 32], offset: [8, 0], around: 64 }; // 8 columns short at either side of the back
  assert.deepEqual(pixelAt(pixelToLonLat(8, 5, 64, 32), part)[1], [0, 5]);
  assert.deepEqual(pixelAt(pixelToLonLat(55, 5, 64, 32), part)[1], [47, 5]);
  for (const column of [7, 56]) assert.equal(pixelAt(pixelToLonLat(column, 5, 64, 32), part), null);
});

test("the largest row may be infinite, which arrives as null", () => {
  assert.deepEqual(largestOf([1, 4, 2, 3]), { ratio: 4, latDeg: 22.5 });
  assert.deepEqual(largestOf([1, 4, 2, null]), { ratio: Infinity, latDeg: -67.5 });
});

test("figures are in the report's precision", () => {
  const measures = {
    ratio_1: 2.34567, ratio_2: null, ratio_8: 0, ratio_16: 1, wrap_rank: 0.9876, verdict: "<b>words</b>",
    pole_variance_top: 0.00126, pole_variance_bottom: 1.5, rows: [0.5, 1],
  };
  assert.deepEqual(figuresOf(measures), [
    "Seam", "<b>words</b>",
    "Ratio at 1, 2, 8, 16 px", "2.35 · Infinity · 0.00 · 1.00",
    "Step larger than", "99 % of columns",
    "Pole variance", "0.0013 top · 1.5000 bottom",
    "Ratio by row", "largest 1.00 at lat −45.0°",
  ]);
});

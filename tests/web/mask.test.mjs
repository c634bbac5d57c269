import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { ringAround } from "../../web/viewer/mask/brush.mjs";
import { MaskLayer } from "../../web/viewer/mask/layer.mjs";
import { MaskRaster } from "../../web/viewer/mask/raster.mjs";
import { formatStrokes, parseStrokes } from "../../web/viewer/mask/strokes.mjs";
import { EN } from "../../web/viewer/texts/en.mjs";
import { useTexts } from "../../web/viewer/texts/text.mjs";

useTexts(EN);

const { height, step, cases } = JSON.parse(readFileSync(new URL("mask_vectors.json", import.meta.url)));

for (const [name, { text, values }] of Object.entries(cases)) {
  test(`the viewer draws the core's mask: ${name}`, () => {
    const raster = new MaskRaster(height);
    for (const stroke of parseStrokes(text)) raster.draw(stroke);
    const worst = Math.max(...values.map((value, index) => Math.abs(raster.data[index * step] / 255 - value)));
    assert.ok(worst <= 0.5 / 255 + 2e-5, `${worst * 255} of 255`);
    const grown = new MaskRaster(height);
    for (const stroke of parseStrokes(text)) {
      for (let count = 1; count <= stroke.points.length; count += 1) {
        const [top, bottom] = grown.draw({ ...stroke, points: stroke.points.slice(0, count) }, count - 2 < 0 ? 0 : count - 2);
        assert.ok(0 <= top && top < bottom && bottom <= height);
      }
    }
    assert.deepEqual(grown.data, raster.data);
  });
}

test("strokes are kept as text and come back; broken texts are refused", () => {
  const strokes = [{ mode: "erase", radius_deg: 2.5, softness: 0.3, points: [[12.5, -3], [190, 90]] }];
  assert.deepEqual(parseStrokes(formatStrokes(strokes)), strokes);
  assert.equal(formatStrokes([]), "");
  assert.deepEqual([parseStrokes(""), parseStrokes(" "), parseStrokes(undefined)], [[], [], []]);
  const one = (changes) => JSON.stringify({ version: 1, strokes: [{ ...strokes[0], ...changes }] });
  for (const text of ["{", "[]", "null", '{"version": 2, "strokes": []}', one({ mode: "x" }), one({ points: [] }),
    one({ points: [[1]] }), one({ radius_deg: 0 }), one({ radius_deg: "4" }), one({ points: [[1, "2"]] })]) {
    assert.throws(() => parseStrokes(text), /cannot be read/, text);
  }
});

test("undo and redo walk through the lists; a new stroke ends the way forth", () => {
  const [a, b, c] = [0, 10, 20].map((lon) => ({ mode: "paint", radius_deg: 1, points: [[lon, 0]] }));
  const layer = new MaskLayer();
  layer.load([a]);
  assert.equal(layer.step(true), false);
  layer.add(b);
  layer.clear();
  assert.ok(layer.step(true));
  assert.deepEqual(layer.strokes, [a, b]);
  assert.ok(layer.step(true) && !layer.step(true));
  assert.ok(layer.step(false) && layer.step(false) && !layer.step(false));
  assert.deepEqual(layer.strokes, []);
  layer.step(true);
  layer.add(c);
  assert.equal(layer.step(false), false);
  assert.deepEqual(layer.strokes, [a, b, c]);
});

test("only changed rows go to the texture, all of them after undo, clear or a lost context", () => {
  const calls = [];
  const renderer = {
    textures: new Set(),
    createMask() {
      const handle = {};
      this.textures.add(handle);
      return handle;
    },
    updateMask: (handle, data, top, bottom) => calls.push([top, bottom]),
  };
  const layer = new MaskLayer();
  assert.equal(layer.texture(renderer), null);
  const stroke = { mode: "paint", radius_deg: 3, points: [[0, 0]] };
  layer.show(stroke, 0);
  layer.add(stroke);
  layer.texture(renderer);
  layer.texture(renderer);
  assert.deepEqual(calls.splice(0), [[0, 1024]]);
  layer.show({ ...stroke, points: [[0, 45]] }, 0);
  layer.texture(renderer);
  const [[top, bottom]] = calls.splice(0);
  assert.ok(Math.abs(top - 256 + 17) <= 2 && Math.abs(bottom - 256 - 17) <= 2, `${top} ${bottom}`);
  layer.add({ ...stroke, points: [[0, 45]] });
  assert.ok(layer.step(true));
  layer.texture(renderer);
  renderer.textures.clear();
  layer.texture(renderer);
  assert.deepEqual(calls, [[0, 1024], [0, 1024]]);
  layer.clear();
  layer.clear(); // nothing more to take back
  assert.equal(layer.texture(renderer), null);
  layer.step(true);
  assert.deepEqual(layer.strokes, [stroke]);
});

test("the brush's ring lies around its centre, also at the poles", () => {
  for (const centre of [[0, 0, 1], [0, 1, 0], [0.6, -0.8, 0], [0.01, 0.99995, 0]]) {
    for (const point of ringAround(centre, 0.3)) {
      const cosine = point.reduce((sum, value, axis) => sum + value * centre[axis], 0);
      assert.ok(Math.abs(Math.hypot(...point) - 1) < 1e-4);
      assert.ok(Math.abs(Math.acos(cosine / Math.hypot(...centre)) - 0.3) < 1e-4);
    }
  }
});

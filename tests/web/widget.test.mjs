import assert from "node:assert/strict";
import test from "node:test";

import { readResult, sourceOf, viewAddress } from "../../web/viewer/node/widget.mjs";

const measures = { verdict: "no step shows at the seam", rows: [1, null] };
const entry = { filename: "a b&c_00001_.png", subfolder: "x/ü", type: "temp", width: 512, height: 256, measures };

test("a node's result is reduced to what is used", () => {
  assert.deepEqual(readResult({ panodiff_panorama: [entry], text: ["unused"] }), {
    panodiff_panorama: [{ filename: "a b&c_00001_.png", subfolder: "x/ü", type: "temp", measures }],
  });
});

test("pictures to compare with are a list of their own", () => {
  const kept = { filename: "a b&c_00001_.png", subfolder: "x/ü", type: "temp", measures };
  assert.deepEqual(readResult({ panodiff_panorama: [entry], panodiff_compare: [null, entry] }), {
    panodiff_panorama: [kept], panodiff_compare: [kept],
  });
  assert.equal(readResult({ panodiff_compare: [entry] }), null);
});

test("a large picture is a preview and tiles, each with an address of its own", () => {
  const api = { apiURL: (route) => `/api${route}` };
  const tiles = { prefix: "a_tile_", levels: [[8192, 4096], [4096, 2048]] };
  const [picture] = readResult({ panodiff_panorama: [{ ...entry, tiles }] }).panodiff_panorama;
  assert.deepEqual(picture.tiles, tiles);
  const source = sourceOf(picture, api);
  assert.deepEqual(source.levels, tiles.levels);
  const names = [source.preview, source.address(1, 3, 0)].map((address) =>
    new URL(address, "http://host").searchParams.get("filename"));
  assert.deepEqual(names, [entry.filename, "a_tile_1_3_0.png"]);
});

test("results without a usable picture are null", () => {
  for (const output of [
    undefined, null, {}, { panodiff_panorama: [] }, { panodiff_panorama: "text" },
    { panodiff_panorama: [null, 3] },
    { panodiff_panorama: [{ ...entry, type: "elsewhere" }] }, { panodiff_panorama: [{ type: "temp" }] },
  ]) {
    assert.equal(readResult(output), null);
  }
});

test("addresses are encoded and never the same twice", () => {
  const api = { apiURL: (route) => `/api${route}` };
  const picture = readResult({ panodiff_panorama: [entry] }).panodiff_panorama[0];
  const first = new URL(viewAddress(picture, api), "http://host");
  assert.equal(first.pathname, "/api/view");
  assert.equal(first.searchParams.get("filename"), entry.filename);
  assert.equal(first.searchParams.get("subfolder"), entry.subfolder);
  assert.equal(first.searchParams.get("type"), "temp");
  assert.equal(first.searchParams.has("measures"), false);
  assert.ok(first.searchParams.get("rand").length > 5);
  assert.notEqual(viewAddress(picture, api), viewAddress(picture, api));
});

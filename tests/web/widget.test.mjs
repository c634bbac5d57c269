import assert from "node:assert/strict";
import test from "node:test";

import { readResult, viewAddress } from "../../web/viewer/node/widget.mjs";

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

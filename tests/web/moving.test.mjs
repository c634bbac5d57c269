import assert from "node:assert/strict";
import test from "node:test";

import { stepped, upcoming } from "../../web/viewer/moving/sequence.mjs";
import { cropIn } from "../../web/viewer/picture/gpano.mjs";
import { eyesShown, stereoOf } from "../../web/viewer/picture/stereo.mjs";

test("the next pictures go on around the end", () => {
  assert.deepEqual(upcoming(1, 5, 3), [1, 2, 3]);
  assert.deepEqual(upcoming(4, 5, 3), [4, 0, 1]);
  assert.deepEqual(upcoming(1, 2, 8), [1, 0]);
});

test("without a loop steps end at the last picture", () => {
  assert.equal(stepped(3, 1, 5, true), 4);
  assert.equal(stepped(4, 2, 5, true), 1);
  assert.equal(stepped(3, 4, 5, false), 4);
});

const FIELDS = {
  CroppedAreaLeftPixels: 400, CroppedAreaTopPixels: 60, CroppedAreaImageWidthPixels: 200, CroppedAreaImageHeightPixels: 120,
  FullPanoWidthPixels: 512, FullPanoHeightPixels: 256,
};
const attributes = (fields) =>
  `<rdf:Description ${Object.entries(fields).map(([name, value]) => `GPano:${name}="${value}"`).join("\n ")}/>`;
const crop = { left: 400, top: 60, width: 200, height: 120, fullWidth: 512, fullHeight: 256 };

test("a crop is read from attributes and from elements", () => {
  assert.deepEqual(cropIn(`\x89PNG…${attributes(FIELDS)}`), crop);
  const elements = Object.entries(FIELDS).map(([name, value]) => `<GPano:${name}>${value}</GPano:${name}>`).join("");
  assert.deepEqual(cropIn(elements), crop);
});

test("no crop is null, also of a whole sphere; numbers that contradict are false", () => {
  assert.equal(cropIn("no fields"), null);
  assert.equal(cropIn(attributes({ ...FIELDS, FullPanoWidthPixels: "many" })), null);
  const whole = {
    ...FIELDS, CroppedAreaLeftPixels: 0, CroppedAreaTopPixels: 0, CroppedAreaImageWidthPixels: 512,
    CroppedAreaImageHeightPixels: 256,
  };
  assert.equal(cropIn(attributes(whole)), null);
  for (const wrong of [
    { CroppedAreaTopPixels: 200 }, { CroppedAreaLeftPixels: 512 }, { CroppedAreaImageWidthPixels: 600 },
    { FullPanoHeightPixels: 512 }, { CroppedAreaImageHeightPixels: 0 },
  ]) {
    assert.equal(cropIn(attributes({ ...FIELDS, ...wrong })), false, JSON.stringify(wrong));
  }
});

test("stereo pairs are known by their proportions, unless a setting or a crop says otherwise", () => {
  assert.equal(stereoOf({ width: 512, height: 256 }, "auto"), "one");
  assert.equal(stereoOf({ width: 512, height: 512 }, "auto"), "below");
  assert.equal(stereoOf({ width: 1024, height: 256 }, "auto"), "beside");
  assert.equal(stereoOf({ width: 512, height: 512, crop }, "auto"), "one");
  assert.equal(stereoOf({ width: 512, height: 512 }, "one"), "one");
  assert.equal(stereoOf({ width: 512, height: 256 }, "beside"), "beside");
});

test("an eye is drawn alone, or both through the colours of their glasses", () => {
  const [left, right] = [{ name: "left" }, { name: "right" }];
  const pair = Object.assign(left, { right });
  assert.deepEqual(eyesShown(pair, "left"), [[pair, true, true, true]]);
  assert.deepEqual(eyesShown(pair, "right"), [[right, true, true, true]]);
  assert.deepEqual(eyesShown(pair, "both"), [[pair, true, false, false], [right, false, true, true]]);
  assert.deepEqual(eyesShown(right, "both"), [[right, true, true, true]]);
  assert.deepEqual(eyesShown(null, "both"), [[null, true, true, true]]);
});

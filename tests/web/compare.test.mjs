import assert from "node:assert/strict";
import test from "node:test";

import { countValues } from "../../web/viewer/compare/histogram.mjs";
import { lead, link, unlink } from "../../web/viewer/compare/links.mjs";
import { ERROR_COLOURS as HEAT } from "../../web/viewer/gl/error_colours.mjs";

/** As much of a viewer as links use; its window allows no field of view beyond `widest`. */
function viewer(widest = 120) {
  const view = {
    mode: "perspective", pose: { yawDeg: 0, fovDeg: 90 }, frames: 0,
    setMode: (mode) => (view.mode = mode),
    camera: { jumpTo: (pose) => (view.pose = { ...pose, fovDeg: Math.min(pose.fovDeg, widest) }) },
    requestFrame: () => (view.frames += 1),
    move(pose, mode = view.mode) {
      Object.assign(view, { pose: { ...view.pose, ...pose }, mode });
      lead(view);
    },
  };
  return view;
}

test("linked viewers go where one of them goes, and only they", () => {
  const [one, two, three, alone] = [viewer(), viewer(), viewer(), viewer()];
  one.pose.yawDeg = 30;
  for (const view of [one, two, three]) link(view);
  assert.equal(two.pose.yawDeg, 30); // who joins goes where the others are
  three.move({ yawDeg: -70 }, "planet");
  for (const view of [one, two]) assert.deepEqual([view.mode, view.pose.yawDeg], ["planet", -70]);
  assert.deepEqual([alone.mode, alone.pose.yawDeg, alone.frames], ["perspective", 0, 0]);
  assert.equal(unlink(two), true);
  assert.equal(unlink(two), false);
  one.move({ yawDeg: 5 });
  assert.deepEqual([two.pose.yawDeg, three.pose.yawDeg], [-70, 5]);
  alone.move({ yawDeg: 99 });
  two.move({ yawDeg: 98 });
  assert.deepEqual([one.pose.yawDeg, three.pose.yawDeg], [5, 5]);
  unlink(one);
  unlink(three);
});

test("a window that allows less does not lead the others back", () => {
  const [wide, narrow] = [viewer(), viewer(60)];
  link(wide);
  link(narrow);
  wide.move({ fovDeg: 100 });
  const { frames } = wide;
  lead(narrow); // it was drawn, with less
  assert.deepEqual([wide.pose.fovDeg, narrow.pose.fovDeg, wide.frames], [100, 60, frames]);
  narrow.move({ fovDeg: 50 });
  assert.equal(wide.pose.fovDeg, 50);
  unlink(wide);
  unlink(narrow);
});

test("values are counted by channel, with mean and clipped shares", () => {
  const data = Uint8Array.of(0, 10, 20, 255, 255, 255, 255, 255, 100, 100, 100, 255, 7, 7, 7, 255);
  const { counts, shares } = countValues(data, 2);
  const [luminance, red, green, blue] = counts;
  assert.deepEqual([red[0], red[255], green[10], green[100], blue[20], blue[7]], [1, 1, 1, 1, 1, 1]);
  const first = 0.7152 * 10 + 0.0722 * 20; // 8.6
  assert.deepEqual([luminance[9], luminance[255], luminance[100], luminance[7]], [1, 1, 1, 1]);
  assert.ok(Math.abs(shares[0] - (first + 255 + 100 + 7) / 4 / 255) < 1e-12);
  assert.deepEqual(shares.slice(1), [0.25, 0.25]);
  const sampled = countValues(data, 2, 2); // every second row and column: the first pixel
  assert.equal(sampled.counts[1].reduce((sum, count) => sum + count), 1);
  assert.equal(sampled.counts[1][0], 1);
});

test("the colours of errors become lighter all the way", () => {
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const lightness = (color) => {
    const y = [0.2126, 0.7152, 0.0722].reduce((sum, part, index) => sum + part * linear(color[index] / 255), 0);
    return y > 0.008856 ? 116 * Math.cbrt(y) - 16 : 903.3 * y; // CIE L*
  };
  const steps = Array.from({ length: 101 }, (_, index) => {
    const at = (index / 100) * (HEAT.length - 1);
    const below = Math.min(Math.floor(at), HEAT.length - 2);
    return lightness(HEAT[below].map((value, axis) => value + (HEAT[below + 1][axis] - value) * (at - below)));
  });
  const rises = steps.slice(1).map((value, index) => value - steps[index]);
  assert.ok(steps[0] < 5 && steps.at(-1) > 90);
  assert.ok(Math.min(...rises) > 0.4 && Math.max(...rises) < 1.6, `${Math.min(...rises)} ${Math.max(...rises)}`);
});

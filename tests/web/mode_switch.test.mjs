import assert from "node:assert/strict";
import test from "node:test";

import { Camera } from "../../web/viewer/motion/camera.mjs";
import { DISPLAY, changedDisplay, displayIn } from "../../web/viewer/picture/display.mjs";
import { ModeSwitch } from "../../web/viewer/motion/mode_switch.mjs";

function made(prefersStill = () => false) {
  const camera = new Camera(prefersStill);
  const modes = new ModeSwitch(camera);
  modes.setWindow(800, 400);
  return { camera, modes };
}

test("modes of one place share where they look; others come back to theirs", () => {
  const { camera, modes } = made();
  camera.jumpTo({ yawDeg: 40, pitchDeg: 20, fovDeg: 60 });
  modes.enter("pannini");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.pitchDeg, camera.pose.fovDeg], [40, 20, 150]);
  modes.enter("flat");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.pitchDeg, camera.pose.fovDeg], [0, 0, 360]);
  camera.jumpTo({ fovDeg: 90, yawDeg: -100 });
  modes.enter("seam");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.fovDeg], [180, 120]);
  modes.enter("flat");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.fovDeg], [-100, 90]);
  modes.enter("perspective");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.pitchDeg, camera.pose.fovDeg], [40, 20, 60]);
  modes.enter("zenith");
  assert.deepEqual([camera.pose.yawDeg, camera.pose.pitchDeg], [40, 90]);
});

test("fixed angles stay whatever the camera is told", () => {
  const { camera, modes } = made();
  modes.enter("seam");
  camera.drag(30, 5);
  assert.equal(camera.pose.yawDeg, 180);
  modes.enter("nadir");
  camera.turn(10, 40);
  while (camera.advance(1 / 60));
  assert.deepEqual([camera.pose.pitchDeg, camera.pose.yawDeg % 360], [-90, 10]);
});

test("a change of mode is on its way, then over; reduced motion has no way between", () => {
  const { modes } = made();
  modes.enter("planet");
  assert.equal(modes.layers().length, 1);
  assert.deepEqual(modes.layers()[0].lens.bend, [0, 0]);
  let frames = 0;
  while (modes.advance(1 / 60)) frames += 1;
  assert.ok(frames > 20 && frames < 60, `${frames}`);
  assert.deepEqual(modes.layers()[0].lens.bend, [1, 1]);
  modes.enter("flat");
  modes.advance(0.125);
  assert.deepEqual(modes.layers().map(({ mode, opacity }) => [mode, opacity]), [["planet", 1], ["flat", 0.5]]);
  const still = made(() => true).modes;
  still.enter("planet");
  assert.equal(still.advance(1 / 60), false);
  assert.deepEqual(still.layers().map(({ mode, opacity }) => [mode, opacity]), [["planet", 1]]);
});

test("a whole picture stays whole when the window changes; a part stays that part", () => {
  const { camera, modes } = made();
  modes.enter("flat");
  modes.setWindow(800, 200);
  assert.equal(camera.pose.fovDeg, 720);
  camera.jumpTo({ fovDeg: 100 });
  modes.setWindow(800, 400);
  assert.equal(camera.pose.fovDeg, 100);
});

test("a whole picture that was left comes back whole in a window of another shape; a part as that part", () => {
  const { camera, modes } = made();
  for (const mode of ["fisheye", "planet", "cubemap_cross", "cubemap_3x2"]) {
    modes.setWindow(800, 400);
    modes.enter(mode);
    modes.enter("perspective");
    modes.setWindow(1000, 300);
    modes.enter(mode);
    assert.equal(camera.pose.fovDeg, modes.home.fovDeg, mode);
    camera.jumpTo({ fovDeg: 100 });
    modes.enter("perspective");
    modes.setWindow(700, 400);
    modes.enter(mode);
    assert.equal(camera.pose.fovDeg, 100, mode);
    modes.enter("perspective");
  }
});

test("unknown modes are refused, the same mode changes nothing", () => {
  const { modes } = made();
  assert.throws(() => modes.enter("mercator"), /no view mode “mercator”/);
  assert.equal(modes.enter("perspective"), false);
});

test("display settings stay in range and belong where they belong", () => {
  assert.equal(changedDisplay(DISPLAY, { exposureEv: 99 }).exposureEv, 4);
  assert.equal(changedDisplay(DISPLAY, { gamma: 0.01 }).gamma, 0.4);
  assert.throws(() => changedDisplay(DISPLAY, { brightness: 1 }), /no display setting “brightness”/);
  const all = changedDisplay(DISPLAY, { contrast: true, checker: true });
  assert.deepEqual(displayIn("seam", all), all);
  assert.deepEqual(displayIn("flat", all), { ...all, contrast: false, seamLine: false });
});

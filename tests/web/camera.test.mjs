import assert from "node:assert/strict";
import test from "node:test";

import { Camera } from "../../web/viewer/motion/camera.mjs";
import { homePose, limitsOf } from "../../web/viewer/geometry/modes.mjs";
import { fittedSize } from "../../web/viewer/picture/source.mjs";

const HOME = homePose("perspective", 800, 400);

function settle(camera, fps = 60) {
  let frames = 0;
  while (camera.advance(1 / fps)) {
    frames += 1;
    assert.ok(frames < 600, "the camera never comes to rest");
  }
  return frames;
}

test("a drag turns at once and stops where the hand stops", () => {
  const camera = new Camera();
  camera.drag(30, 10);
  assert.deepEqual([camera.pose.yawDeg, camera.pose.pitchDeg], [30, 10]);
  assert.equal(settle(camera), 0);
});

test("inertia goes on in the direction of the drag, slows down, and is the same at any frame rate", () => {
  const ends = [30, 60, 144].map((fps) => {
    const camera = new Camera();
    camera.release(100, -20);
    const frames = settle(camera, fps);
    assert.ok(frames > fps / 4, "it ends too soon to be seen");
    return camera.pose;
  });
  for (const end of ends) {
    assert.ok(Math.abs(end.yawDeg - 28) < 1, `100°/s for 0.28 s is 28°, not ${end.yawDeg}`);
    assert.ok(Math.abs(end.yawDeg - ends[0].yawDeg) < 0.3);
    assert.ok(Math.abs(end.pitchDeg / end.yawDeg + 0.2) < 1e-6);
  }
});

test("reduced motion: no inertia and no gliding", () => {
  const camera = new Camera(() => true);
  camera.release(100, 100);
  assert.equal(settle(camera), 0);
  camera.turn(9, 0);
  assert.equal(camera.pose.yawDeg, 9);
  camera.glideTo(HOME);
  assert.deepEqual(camera.pose, { ...HOME });
});

test("pitch ends at the poles and the field of view within its limits", () => {
  const camera = new Camera();
  camera.drag(0, 500);
  assert.equal(camera.pose.pitchDeg, 90);
  camera.zoom(1e-3, true);
  assert.equal(camera.pose.fovDeg, 10);
  camera.zoom(1e3, true);
  assert.equal(camera.pose.fovDeg, 120);
});

test("a tall window limits its horizontal field of view by the vertical one", () => {
  const camera = new Camera();
  camera.setLimits(limitsOf("perspective", 200, 600));
  assert.ok(camera.pose.fovDeg < 66 && camera.pose.fovDeg > 64, `${camera.pose.fovDeg}`);
});

test("reset glides home the short way around", () => {
  const camera = new Camera();
  camera.jumpTo({ yawDeg: 350, pitchDeg: 20 });
  camera.glideTo(HOME);
  assert.equal(camera.goal.yawDeg, 360);
  settle(camera);
  assert.deepEqual(camera.current, { ...HOME });
});

test("steps add up while one is still on its way; zoom goes on through a drag", () => {
  const camera = new Camera();
  camera.turn(9, 0);
  camera.turn(9, 0);
  camera.zoom(0.5);
  camera.advance(1 / 60);
  camera.drag(0, 0);
  settle(camera);
  assert.equal(camera.pose.fovDeg, 45);
});

test("pictures are fitted to the graphics card in proportion, 2:1 staying exactly 2:1", () => {
  assert.deepEqual(fittedSize(4096, 2048, 8192), [4096, 2048]);
  assert.deepEqual(fittedSize(16384, 8192, 8192), [8192, 4096]);
  assert.deepEqual(fittedSize(10000, 5000, 4097), [4096, 2048]);
  assert.deepEqual(fittedSize(1000, 4000, 1000), [250, 1000]);
});

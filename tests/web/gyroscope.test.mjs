import assert from "node:assert/strict";
import test from "node:test";

import { cameraRotation } from "../../web/viewer/geometry/projection.mjs";
import { frameOf, poseOf } from "../../web/viewer/motion/gyroscope.mjs";

function looks(alpha, beta, gamma, screenDeg = 0) {
  const { yawDeg, pitchDeg, rollDeg } = poseOf(frameOf({ alpha, beta, gamma }, screenDeg));
  return [yawDeg, pitchDeg, rollDeg].map((angle) => Math.round(angle * 1e6) / 1e6 + 0);
}

test("a device that is held upright looks ahead, and turning, tilting and leaning it does the same to the view", () => {
  assert.deepEqual(looks(0, 90, 0), [0, 0, 0]);
  assert.deepEqual(looks(330, 90, 0), [30, 0, 0]); // alpha grows to the left
  assert.deepEqual(looks(0, 120, 0), [0, 30, 0]); // its back goes up
  assert.deepEqual(looks(0, 60, 0), [0, -30, 0]);
  assert.deepEqual(looks(0, 90, 20), [-20, 0, 0]); // upright, gamma turns about the same axis as alpha
});

test("flat on a table it looks straight down, and its top is where the view's top is", () => {
  assert.deepEqual(looks(0, 0, 0), [0, -90, 0]);
  assert.deepEqual(looks(270, 0, 0), [90, -90, 0]);
  assert.deepEqual(looks(0, 180, 0), [0, 90, 0]); // held over the head
});

test("a page turned on the device turns with it", () => {
  // On its left side: what is up on the page is to the right on the device.
  assert.deepEqual(looks(0, 0, -90, 90), looks(270, 90, 0));
  assert.deepEqual(looks(0, 0, 90, 270), looks(90, 90, 0));
  assert.deepEqual(looks(0, 0, -60, 90), looks(270, 60, 0));
  assert.deepEqual(looks(0, 90, 0, 90), [0, 0, 90]); // upright, with a page that lies on its side
});

test("the pose is the camera whose axes are the device's, everywhere on the sphere", () => {
  for (let index = 0; index < 400; index += 1) {
    const [alpha, beta, gamma] = [(index * 47) % 360, ((index * 31) % 360) - 180, ((index * 17) % 180) - 90];
    const { forward, up } = frameOf({ alpha, beta, gamma }, [0, 90, 180, 270][index % 4]);
    const { yawDeg, pitchDeg, rollDeg } = poseOf({ forward, up });
    const rows = cameraRotation(yawDeg, pitchDeg, rollDeg);
    for (const axis of [0, 1, 2]) {
      assert.ok(Math.abs(rows[axis][1] - up[axis]) < 1e-9, `up of reading ${index}`);
      assert.ok(Math.abs(rows[axis][2] - forward[axis]) < 1e-9, `forward of reading ${index}`);
    }
  }
});

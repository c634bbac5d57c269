/** A view through glasses (WebXR): each eye sees the sphere through a lens of its own. */

import { cameraRotation, dot } from "../geometry/projection.mjs";
import { displayIn } from "../picture/display.mjs";

/**
 * The lens of an eye (see geometry/lens.mjs).
 * @param {Float32Array} projection and `transform`: matrices of the XRView, by columns; ahead is −Z
 * @param {{x, y, width, height}} viewport of the eye, in pixels
 * @param {number} yawDeg where the panorama is ahead
 */
export function eyeLens(projection, transform, { x, y, width, height }, yawDeg) {
  // Half the size of the eye's plane.
  const [reach, high] = [1 / projection[0], 1 / projection[5]];
  const step = (2 * reach) / width;
  // Pixels need not be square: the plane's y is then stretched.
  const stretch = (2 * high) / height / step;
  const ahead = cameraRotation(yawDeg, 0, 0);
  const flip = [1, 1, -1];
  const rotation = ahead.map((row) => [1, stretch, -1].map((scale, column) =>
    scale * dot(row, flip.map((sign, axis) => sign * transform[4 * column + axis]))));
  // The shader counts pixels from the corner of both eyes' picture.
  const centre = [projection[8] * reach - x * step, (projection[9] * high) / stretch - y * step];
  return { kind: 0, bend: [0, 0], turn: [1, 0], reach, width, height, rotation, centre };
}

/** Show `view` in the glasses until the person leaves. Needs a click or key just before. */
export async function enterVr(view) {
  const session = await navigator.xr.requestSession("immersive-vr");
  const { signal } = view.listeners;
  signal.addEventListener("abort", () => session.end().catch(() => {})); // may have ended already
  try {
    const { gl } = view.renderer;
    await gl.makeXRCompatible(); // may take the context away for a moment
    const layer = new XRWebGLLayer(session, gl, { antialias: false, depth: false, alpha: false });
    session.updateRenderState({ baseLayer: layer });
    const space = await session.requestReferenceSpace("local");
    const { yawDeg } = view.pose;
    const frame = (_, xrFrame) => {
      session.requestAnimationFrame(frame);
      const pose = xrFrame.getViewerPose(space);
      if (pose && view.renderer && !view.renderer.lost) drawEyes(view, layer, pose.views, yawDeg);
    };
    session.requestAnimationFrame(frame);
  } catch (problem) {
    await session.end();
    throw problem;
  }
}

function drawEyes({ renderer, picture, mask, display }, layer, eyes, yawDeg) {
  const { gl } = renderer;
  const painted = mask?.texture(renderer);
  gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
  for (const eye of eyes) {
    const viewport = layer.getViewport(eye);
    const lensAt = (place) => eyeLens(eye.projectionMatrix, eye.transform.matrix, { ...place, width, height }, yawDeg);
    const { width, height } = viewport;
    const lens = lensAt(viewport);
    // Both eyes see nearly the same tiles.
    if (eye === eyes[0]) picture?.tiles?.see(lensAt({ x: 0, y: 0 }), display.smooth);
    // The heat map measures its picture in a framebuffer of its own, in the middle of a drawing.
    const shown = displayIn("perspective", { ...display, eye: eye.eye, heat: false });
    renderer.shade({ picture, lens, display: shown, mask: painted }, viewport);
  }
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
}

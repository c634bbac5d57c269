/** A button for glasses, where the browser has some. */

import { text } from "../texts/text.mjs";

export async function offerVr(view) {
  const supported = await navigator.xr?.isSessionSupported("immersive-vr").catch(() => false);
  if (!supported || view.disposed) return;
  view.overlay.addTool("vr", "v", () => import("../gl/vr.mjs").then(({ enterVr }) => enterVr(view))
    .catch((problem) => view.overlay.say(text("vrFails", { problem: problem.message }))));
}

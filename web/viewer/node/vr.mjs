/** A button for glasses, where the browser has some. */

import { text } from "../texts/text.mjs";

export async function offerVr(view) {
  const supported = await navigator.xr?.isSessionSupported("immersive-vr").catch(() => false);
  if (!supported || view.disposed) return;
  const enter = () => import("../gl/vr.mjs").then(({ enterVr }) => enterVr(view));
  const fail = (problem) => view.overlay.say(text("vrFails", { problem: problem.message }));
  view.overlay.addTool("vr", "v", () => enter().catch(fail));
}

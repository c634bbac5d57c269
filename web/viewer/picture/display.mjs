/** How the picture is shown, saved and captured: settings that never change the picture itself. */

import { clamp } from "../geometry/projection.mjs";

/**
 * exposureEv  stops, in linear light
 * gamma       of the screen values: above 1 lifts the shadows
 * checker     a chequered ground behind transparent parts instead of a dark one
 * seamLine    in the seam view: a broken line along the back meridian
 * contrast    in the seam view: differences from the surroundings, 8 times enlarged, on grey
 * heat        steps between columns in false colours (gl/heat.mjs) over a dim picture
 * stereo      how two eyes lie in the picture, one of STEREO (picture/stereo.mjs)
 * eye         which of them is shown, one of EYES
 * length      how long the longer side of saved and captured pictures becomes, one of LENGTHS (picture/capture.mjs)
 * smooth      average where the window is coarser than the picture; otherwise read points at full resolution
 */
export const DISPLAY = {
  exposureEv: 0, gamma: 1, checker: false, seamLine: true, contrast: false, heat: false,
  stereo: "auto", eye: "left", length: "1024", smooth: true,
};

export const RANGES = { exposureEv: [-4, 4], gamma: [0.4, 2.5] };

/** `display` with some settings changed; numbers are kept in range. */
export function changedDisplay(display, changes) {
  const unknown = Object.keys(changes).find((name) => !Object.hasOwn(DISPLAY, name));
  if (unknown) throw new Error(`There is no display setting “${unknown}”.`);
  const changed = { ...display, ...changes };
  for (const [name, range] of Object.entries(RANGES)) {
    changed[name] = clamp(Number(changed[name]) || DISPLAY[name], ...range);
  }
  return changed;
}

/** The settings as a mode uses them: line and contrast belong to the seam view. */
export function displayIn(mode, display) {
  const seam = mode === "seam";
  return { ...display, seamLine: seam && display.seamLine, contrast: seam && display.contrast };
}

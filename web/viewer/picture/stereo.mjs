/** Two panoramas in one picture, for two eyes: where they lie and which is shown. Pure functions. */

export const STEREO = ["auto", "one", "below", "beside"];
export const EYES = ["left", "right", "both"];

/** [left, top, width, height] of each eye's part, as shares of the picture. */
export const EYE_PARTS = {
  one: [[0, 0, 1, 1]],
  below: [[0, 0, 1, 0.5], [0, 0.5, 1, 0.5]],
  beside: [[0, 0, 0.5, 1], [0.5, 0, 0.5, 1]],
};

/** How the eyes lie in a picture, by the setting `stereo` of picture/display.mjs. */
export function stereoOf({ width, height, crop, cube }, stereo) {
  if (stereo !== "auto") return stereo;
  if (crop || cube) return "one";
  return width === height ? "below" : width === 4 * height ? "beside" : "one";
}

/** What to draw one after the other: [handle, red, green, blue] with the channels that it fills. */
export function eyesShown(picture, eye) {
  const right = picture?.right;
  if (right && eye === "both") return [[picture, true, false, false], [right, false, true, true]];
  return [[right && eye === "right" ? right : picture, true, true, true]];
}

/** How the values of what is seen are spread: luminance, red, green and blue, of each picture that is compared. */

import { element } from "../panel/elements.mjs";
import { text } from "../texts/text.mjs";

// Of a larger window every second, third … row and column.
const SAMPLES = 1 << 16;
// While the view moves.
const WAIT_MS = 150;
const HEIGHT = 64;
// Their light adds up.
const COLORS = ["#999", "#c22", "#282", "#24d"];

/**
 * Count the values of RGBA bytes in rows of `width` pixels, at each `step`-th row and column.
 * @returns {{counts: Uint32Array[], shares: number[]}} counts by value of luminance, red, green and blue; shares of
 *     full scale: the mean luminance, and pixels with a channel at 0 and at 255
 */
export function countValues(data, width, step = 1) {
  const counts = COLORS.map(() => new Uint32Array(256));
  const sums = [0, 0, 0];
  let total = 0;
  for (let row = 0; row < data.length; row += 4 * width * step) {
    for (let at = row; at < row + 4 * width; at += 4 * step) {
      const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
      const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
      counts[0][Math.round(luminance)] += 1;
      counts[1][r] += 1;
      counts[2][g] += 1;
      counts[3][b] += 1;
      sums[0] += luminance / 255;
      sums[1] += Math.min(r, g, b) === 0;
      sums[2] += Math.max(r, g, b) === 255;
      total += 1;
    }
  }
  return { counts, shares: sums.map((sum) => sum / total) };
}

function drawCounts(counts) {
  const canvas = element("canvas", "", { width: 256, height: HEIGHT });
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "lighter";
  // A few values may be by far the most frequent, a clear sky's and clipped ones; they may rise out of sight.
  const most = Math.max(1, counts.flatMap((of) => [...of]).sort((one, other) => other - one)[12]);
  counts.forEach((of, channel) => {
    context.fillStyle = COLORS[channel];
    of.forEach((count, value) => context.fillRect(value, HEIGHT, 1, (-HEIGHT * count) / most));
  });
  return canvas;
}

/** What `picture` looks like in the view, without what lies over it, counted. */
function countSeen(view, picture) {
  const { width, height } = view.canvas;
  const context = element("canvas", "", { width, height }).getContext("2d", { willReadFrequently: true });
  view.renderer.draw(picture, view.lens(width, height), view.plainDisplay, context);
  const step = Math.ceil(Math.sqrt((width * height) / SAMPLES));
  return countValues(context.getImageData(0, 0, width, height).data, width, step);
}

/** A button and a key for the histogram; `comparison` knows which pictures are looked at. */
export function addHistogram(view, comparison) {
  const panel = element("div", "pd360-histogram", { role: "img", tabindex: 0, hidden: "" });
  view.overlay.foot.prepend(panel);
  let waiting = 0;
  const update = () => {
    waiting = 0;
    if (view.disposed || panel.hidden) return;
    const parts = comparison.pictures.flatMap((picture, index) => {
      const { counts, shares } = countSeen(view, picture);
      const [mean, dark, bright] = shares.map((share) => `${(100 * share).toFixed(1)} %`);
      return [drawCounts(counts), `${"AB"[index]}: ${text("spread", { mean, dark, bright })} `];
    });
    panel.replaceChildren(...parts);
    panel.setAttribute("aria-label", `${text("histogram")}. ${panel.textContent}`);
  };
  const button = view.overlay.addTool("histogram", "h", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-pressed", !panel.hidden);
    update();
    view.overlay.announce(panel.hidden ? "" : panel.textContent);
  }, { "aria-pressed": false });
  view.drawn.push(() => (waiting ||= setTimeout(update, WAIT_MS)));
}

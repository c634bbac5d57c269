/** The panel of measures: what is under the pointer, the figures of seam and poles, and the seam row by row. */

import { element, group } from "./elements.mjs";
import { clamp, degrees, formatDegrees, lonLatToPixel } from "../geometry/projection.mjs";
import { readTexels } from "../gl/heat.mjs";
import { text } from "../texts/text.mjs";

// As the report's words have it.
const CUT = 1.6;
// After the view's own angles.
const SAY_AFTER_MS = 900;

// Infinity arrives as null.
const number = (value, digits = 2) => Number(value ?? Infinity).toFixed(digits);

/** The largest ratio of a profile and the latitude of its row in degrees. */
export function largestOf(rows) {
  const values = rows.map((ratio) => ratio ?? Infinity);
  const ratio = Math.max(...values);
  return { ratio, latDeg: 90 - (180 * (values.indexOf(ratio) + 0.5)) / rows.length };
}

/** What a node measured, as names and texts in turn; the last is about the chart below. */
export function figuresOf(measures) {
  const { ratio, latDeg } = largestOf(measures.rows);
  const [top, bottom] = [measures.pole_variance_top, measures.pole_variance_bottom].map((value) => number(value, 4));
  return [
    text("seamFigures"), measures.verdict,
    text("ratios"), [1, 2, 8, 16].map((distance) => number(measures[`ratio_${distance}`])).join(" · "),
    text("rank"), text("rankIs", { percent: number(100 * measures.wrap_rank, 0) }),
    text("poles"), text("polesAre", { top, bottom }),
    text("rows"), text("rowsAre", { ratio: number(ratio), lat: formatDegrees(latDeg) }),
  ];
}

/** Bars from the line of 1, on a scale of powers of 2 from ¼ to 16: upwards for steps, amber where they cut. */
function drawProfile(canvas, rows) {
  canvas.width = 448; // clears it
  const context = canvas.getContext("2d");
  context.scale(canvas.width / rows.length, -canvas.height / 6);
  context.translate(0, -4);
  rows.forEach((ratio, index) => {
    context.fillStyle = (ratio ?? 16) > CUT ? "#ffc66b" : "#8ec9ff";
    context.fillRect(index, 0, 1, clamp(Math.log2(ratio ?? 16), -2, 4));
  });
}

/**
 * Column and row of a place on the sphere in the texture and in the picture itself, which is larger where the
 * graphics card takes less; null outside of it.
 * @param {{size, sphere, offset, around}} texture its own size, that of the whole sphere and where in it it begins; the
 *     width that the whole sphere has in the picture itself
 */
export function pixelAt([lon, lat], { size, sphere, offset, around }) {
  const at = lonLatToPixel(lon, lat, ...sphere).map((value, axis) => value + 0.5 - offset[axis]);
  if (at[0] < 0) at[0] += sphere[0]; // a part may lie across the back
  if (at.some((value, axis) => value < 0 || value > size[axis])) return null;
  // A place on the last edge belongs to the last pixel.
  return [1, around / sphere[0]].map((scale) =>
    at.map((value, axis) => Math.floor(Math.min(value, size[axis] - 1e-3) * scale)));
}

/** The place, its pixel and the pixel's value in words. */
function readingAt({ picture, renderer, display }, place) {
  if (!picture || !place) return text("outside");
  const [lon, lat] = place.map((angle) => formatDegrees(degrees(angle)));
  if (picture.cube) return text("place", { lon, lat });
  const found = pixelAt(place, picture);
  if (!found) return text("outside");
  const [texel, [x, y]] = found;
  const seen = picture[display.eye] ?? picture; // its right eye, where that is shown alone
  const colour = readTexels(renderer.gl, seen, 0, ...texel, 1).subarray(0, 3).join(" ");
  return text(picture.around === picture.sphere[0] ? "pixel" : "nearPixel", { lon, lat, x, y, colour });
}

export class MeasuresTool {
  constructor(view) {
    this.view = view;
    this.reading = element("p", "");
    this.figures = element("dl", "");
    this.chart = element("canvas", "", { height: 96, "aria-hidden": true });
    this.panel = group("pd360-panel pd360-measures", "measures", this.reading, this.figures, this.chart);
    view.overlay.foot.prepend(this.panel);
    this.button = view.overlay.addTool("measures", "m", () => this.toggle());
    view.canvas.addEventListener("pointermove", (event) => this.update(view.controls.position(event)));
    // Keys turn the view: then its middle counts.
    view.root.addEventListener("keydown", () => this.update(null));
    view.drawn.push(() => this.update());
    this.show(null);
    this.toggle(false);
  }

  toggle(open = this.panel.hidden) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", open);
    this.update();
  }

  /** The measures of the picture that is shown now, as the node sent them. */
  show(measures) {
    const rows = measures?.rows;
    const texts = rows ? figuresOf(measures) : ["", measures?.problem ?? text("runForFigures")];
    this.figures.replaceChildren(...texts.map((line, index) => element(index % 2 ? "dd" : "dt", "", {}, line)));
    this.chart.hidden = !rows;
    if (rows) drawProfile(this.chart, rows);
  }

  /** Read what is at `pointer`, a position in the window, or in the middle where it is null. */
  update(pointer = this.pointer) {
    const { view, panel, reading } = this;
    this.pointer = pointer;
    view.root.classList.toggle("pd360-aims", !panel.hidden && !pointer);
    if (panel.hidden) return;
    const place = view.lonLatAt(...(pointer ?? view.middle));
    const line = `${text(pointer ? "pointer" : "middle")}: ${readingAt(view, place)}`;
    if (line === reading.textContent) return;
    reading.textContent = line;
    clearTimeout(this.saying);
    if (!pointer) this.saying = setTimeout(() => view.overlay.announce(line), SAY_AFTER_MS);
  }
}

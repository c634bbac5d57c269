/**
 * The viewer on a ComfyUI node: turns the node's results into addresses and keeps the last one with the node.
 *
 * The node sends
 *   ui = { panodiff_panorama: [{filename, subfolder, type, width, height}, …] }
 * with one entry per picture of a batch. Pictures come through ComfyUI's /view.
 */

import { isCameraView, roundedPose } from "../picture/capture.mjs";
import { MaskTool } from "../mask/tool.mjs";
import { hideValue, readValue, writeValues } from "./values.mjs";
import { PanoramaView } from "../panorama_view.mjs";
import { PictureGoneError } from "../picture/source.mjs";
import { ensureStyles } from "./styles.mjs";
import { sizeOf } from "../picture/view_picture.mjs";

const PROPERTY = "panodiff_panorama"; // node.properties: saved with the workflow
const STROKES = "mask_strokes"; // the input that keeps what is painted
const FOLDERS = new Set(["temp", "output", "input"]);

export function mount(host, node, api) {
  ensureStyles();
  return new PanoramaWidget(host, node, api);
}

/** What a node sent, reduced to what is used; null where it holds no picture. */
export function readResult(output) {
  const entries = Array.isArray(output?.panodiff_panorama) ? output.panodiff_panorama : [];
  const pictures = entries
    .filter((entry) => typeof entry?.filename === "string" && FOLDERS.has(entry.type))
    .map(({ filename, subfolder, type }) => ({ filename, subfolder: String(subfolder ?? ""), type }));
  return pictures.length > 0 ? { panodiff_panorama: pictures } : null;
}

export function viewAddress(picture, api) {
  // The random part keeps the browser from showing an older file of the same name.
  const query = new URLSearchParams({ ...picture, rand: Math.random().toString(36).slice(2) });
  return api.apiURL(`/view?${query}`);
}

class PanoramaWidget {
  constructor(host, node, api) {
    Object.assign(this, { node, api, result: null, index: 0 });
    this.view = new PanoramaView(host, {
      label: "360° panorama viewer",
      emptyText: "Run the workflow, then look around here.",
      wheelNeedsFocus: true,
    });
    this.view.onPage = (step) => this.page(step);
    this.view.addTool("capture", "Capture this view for the next run", "c", () => this.capture());
    hideValue(node, STROKES);
    this.mask = new MaskTool(this.view, {
      read: () => readValue(node, STROKES),
      write: (text) => this.fillIn({ [STROKES]: text }),
    });
  }

  /** The node ran. Its files may have the names of older ones, so they are always loaded. */
  executed(output) {
    this.mask.sync();
    const result = readResult(output);
    if (!result) return;
    this.node.properties ??= {};
    this.node.properties[PROPERTY] = result;
    this.showResult(result);
  }

  /** After loading, pasting or undoing: the result that the node remembers. */
  restore() {
    this.mask.sync();
    this.outputsShown(this.node.properties?.[PROPERTY]);
  }

  outputsShown(output) {
    const result = readResult(output);
    if (result && JSON.stringify(result) !== JSON.stringify(this.result)) this.showResult(result);
  }

  showResult(result) {
    this.index = Math.min(this.index, result.panodiff_panorama.length - 1);
    this.result = result;
    return this.showPicture();
  }

  page(step) {
    const total = this.result?.panodiff_panorama.length ?? 0;
    if (total < 2) return;
    this.index = (this.index + step + total) % total;
    this.showPicture();
  }

  /** Hand the view to the node's inputs, so that the next run renders it at full resolution. */
  capture() {
    const { view, node } = this;
    if (!view.picture) return view.overlay.say("Run the workflow first, then capture what you see.");
    if (!isCameraView(view.mode)) {
      return view.overlay.say("A camera has a flat lens: press 1 for the perspective view and capture there.");
    }
    view.lookAt(roundedPose(view.pose)); // what is captured is what is seen
    const { yawDeg, pitchDeg, rollDeg, fovDeg } = view.pose;
    const angles = { yaw_deg: yawDeg, pitch_deg: pitchDeg, roll_deg: rollDeg, fov_deg: fovDeg };
    for (const name of Object.keys(angles)) angles[name] = Number(angles[name].toFixed(4));
    const [width, height] = sizeOf(view);
    view.overlay.say(`Captured at ${width} × ${height}. Run to render it.`);
    return this.fillIn({ ...angles, width, height });
  }

  /** Give the node's inputs values; where a wire gives others, say so. */
  fillIn(values) {
    const wired = writeValues(this.node, values);
    if (wired.length > 0) this.view.overlay.say(`${wired.join(", ")}: a wire gives another value. Take it off.`);
  }

  async showPicture() {
    const pictures = this.result.panodiff_panorama;
    this.view.overlay.showPage(this.index, pictures.length);
    try {
      await this.view.show(viewAddress(pictures[this.index], this.api));
    } catch (problem) {
      const gone = problem instanceof PictureGoneError;
      this.view.clear(gone ? `${problem.message} Run the workflow again.` : problem.message, !gone);
    }
  }

  dispose() {
    this.mask.dispose();
    this.view.dispose();
  }
}

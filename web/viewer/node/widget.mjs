/**
 * The viewer on a ComfyUI node: turns the node's results into addresses and keeps the last one with the node.
 *
 * The node sends
 *   ui = { panodiff_panorama: [{filename, subfolder, type, width, height, measures, tiles}, …], panodiff_compare: […] }
 * with one entry per picture of a batch; the second list is there where something is compared. Pictures come
 * through ComfyUI's /view; a file with `tiles` is the preview of a large one. An entry with `kind` "cubemap" is a picture of six faces, one with "video" a video file.
 */

import { isCameraView, roundedPose, sizeOf } from "../picture/capture.mjs";
import { Comparison } from "../compare/comparison.mjs";
import { addHistogram } from "../compare/histogram.mjs";
import { addLinkTool, unlink } from "../compare/links.mjs";
import { Gyroscope } from "../motion/gyroscope.mjs";
import { MODES } from "../geometry/modes.mjs";
import { MaskTool } from "../mask/tool.mjs";
import { MeasuresTool } from "../panel/measures.mjs";
import { inputOf, writeValues } from "./values.mjs";
import { PanoramaView } from "../panorama_view.mjs";
import { Player } from "../moving/player.mjs";
import { ensureStyles } from "./styles.mjs";
import { offerVr } from "./vr.mjs";
import { text } from "../texts/text.mjs";

const PROPERTY = "panodiff_panorama"; // node.properties: saved with the workflow
const STROKES = "mask_strokes"; // the input that keeps what is painted
const FOLDERS = ["temp", "output", "input"];
const KEPT = ["filename", "subfolder", "type", "kind", "measures", "tiles"]; // of what a node sends

export function mount(host, node, api) {
  ensureStyles();
  return new PanoramaWidget(host, node, api);
}

/** What a node sent, reduced to what is used; null where it holds no picture. */
export function readResult(output) {
  const [pictures, others] = [picturesIn(output?.panodiff_panorama), picturesIn(output?.panodiff_compare)];
  if (pictures.length === 0) return null;
  return { panodiff_panorama: pictures, ...(others.length > 0 && { panodiff_compare: others }) };
}

function picturesIn(entries) {
  if (!Array.isArray(entries)) return [];
  return entries
    .filter((entry) => typeof entry?.filename === "string" && FOLDERS.includes(entry.type))
    .map((entry) => Object.fromEntries(KEPT.filter((name) => entry[name]).map((name) => [name, entry[name]])));
}

/** What a viewer is asked to show: an address, or those of a large picture's preview and tiles. */
export function sourceOf(picture, api) {
  const preview = viewAddress(picture, api);
  if (!picture.tiles) return preview;
  const { prefix, levels } = picture.tiles;
  const address = (...place) => viewAddress({ ...picture, filename: `${prefix}${place.join("_")}.png` }, api);
  return { preview, levels, address };
}

export function viewAddress({ filename, subfolder = "", type }, api) {
  // The random part keeps the browser from showing an older file of the same name.
  const query = new URLSearchParams({ filename, subfolder, type, rand: Math.random() });
  return api.apiURL(`/view?${query}`);
}

class PanoramaWidget {
  constructor(host, node, api) {
    const view = new PanoramaView(host, { emptyText: text("run"), wheelNeedsFocus: true });
    Object.assign(this, { node, api, view, choices: {} });
    this.player = new Player(view, this);
    const strokes = inputOf(node, STROKES);
    if (strokes) this.handBack(strokes);
    this.measures = new MeasuresTool(view);
    const comparison = new Comparison(view);
    addLinkTool(view);
    addHistogram(view, comparison);
    new Gyroscope(view);
    offerVr(view);
  }

  /** Capture and mask, on nodes that have inputs to keep them. */
  handBack(strokes) {
    this.view.overlay.addTool("capture", "c", () => this.capture());
    // In LiteGraph; Nodes 2.0 hides it by the input's definition.
    strokes.hidden = true;
    this.node.setDirtyCanvas?.(true);
    this.mask = new MaskTool(this.view, {
      read: () => strokes.value,
      write: (value) => this.fillIn({ [STROKES]: value }),
    });
  }

  /** Take over what the person chose in ComfyUI's settings; what is left out stays. */
  adjust(changes) {
    const { view, choices } = this;
    const { invertDrag, sensitivity = 1 } = Object.assign(choices, changes);
    view.controls.turnFactor = invertDrag ? -sensitivity : sensitivity;
    const mode = changes.defaultMode;
    if (MODES[mode]) view.setMode(mode, { atOnce: !view.picture });
  }

  /** The node ran. Its files may have the names of older ones, so they are always loaded. */
  executed(output) {
    this.mask?.sync();
    const result = readResult(output);
    if (!result) return;
    this.node.properties[PROPERTY] = result;
    this.showResult(result);
  }

  /** After loading, pasting or undoing: the result that the node remembers. */
  restore() {
    this.mask?.sync();
    this.outputsShown(this.node.properties[PROPERTY]);
  }

  outputsShown(output) {
    const result = readResult(output);
    if (result && JSON.stringify(result) !== JSON.stringify(this.result)) this.showResult(result);
  }

  showResult(result) {
    this.result = result;
    const sources = result.panodiff_panorama.map((entry) => sourceOf(entry, this.api));
    const [{ kind }] = result.panodiff_panorama;
    return this.player.open(sources, { video: kind === "video", cube: kind === "cubemap" });
  }

  /** Hand the view to the node's inputs, so that the next run renders it at full resolution. */
  capture() {
    const { view, node } = this;
    if (!view.picture) return view.overlay.say(text("runFirst"));
    if (!isCameraView(view.mode)) return view.overlay.say(text("flatLens"));
    view.lookAt(roundedPose(view.pose)); // what is captured is what is seen
    const [width, height] = sizeOf(view);
    const values = { width, height };
    for (const [name, angle] of Object.entries(view.pose)) {
      values[name.replace(/Deg$/, "_deg")] = Number(angle.toFixed(4));
    }
    view.overlay.say(text("captured", { size: `${width} × ${height}` }));
    return this.fillIn(values);
  }

  /** Give the node's inputs values; where a wire gives others, or there is no such input, say so. */
  fillIn(values) {
    const { view, node } = this;
    try {
      const wired = writeValues(node, values);
      if (wired.length > 0) view.overlay.say(text("wired", { names: wired.join(", ") }));
    } catch (problem) {
      view.overlay.say(problem.message);
    }
  }

  /** The picture `index` of the result is shown: its figures, and what it is compared with. */
  async shown(index) {
    const { panodiff_panorama: pictures, panodiff_compare: others = [] } = this.result;
    this.measures.show(pictures[index]?.measures);
    // A shorter batch's last picture stands for the rest.
    const other = others[index] ?? others.at(-1);
    if (other === this.other) return;
    this.other = other;
    try {
      await this.view.compare(other && sourceOf(other, this.api));
    } catch (problem) {
      this.view.overlay.say(`B: ${problem.message}`);
    }
  }

  failed(problem) {
    this.measures.show(null);
    this.other = null;
    this.view.compare(null);
    const { gone } = problem;
    this.view.clear(gone ? text("runAgain", { problem: problem.message }) : problem.message, !gone);
  }

  dispose() {
    unlink(this.view);
    this.view.compare(null);
    this.mask?.dispose();
    this.player.close();
    this.view.dispose();
  }
}

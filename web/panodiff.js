/**
 * PanoDiff in ComfyUI's frontend. This is the one file that ComfyUI imports by itself, so it stays small: it
 * makes room on the node and fetches the modules below ./viewer/ when the first node that needs them appears.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

/** A panel for the text that a node reports. */
function text(name, minHeight, size) {
  return { name, type: "PANODIFF_TEXT", minHeight, size, load: () => import("./text_widget.mjs") };
}

/** A viewer to look around in. */
function viewer(size) {
  return {
    name: "panorama", type: "PANODIFF_PANORAMA", minHeight: 240, size, load: () => import("./viewer/node/widget.mjs"),
  };
}

const PANELS = {
  PanoDiff_ViewPanorama: viewer([480, 380]),
  PanoDiff_ViewCubemap: viewer([480, 340]),
  PanoDiff_ViewVideo: viewer([480, 340]),
  PanoDiff_ReportSeam: text("report_text", 150, [340, 400]),
  PanoDiff_ReportCubeSeams: text("report_text", 150, [340, 360]),
  PanoDiff_EncodePrompt: text("notes", 56, [400, 300]),
  PanoDiff_EncodeFacePrompts: text("notes", 56, [400, 760]),
  PanoDiff_LoadSTAR: text("notes", 56, [400, 300]),
};

/** The viewer's texts in ComfyUI's language. */
async function loadTexts() {
  const language = await import("./viewer/node/language.mjs");
  await language.loadTexts(app.extensionManager?.setting?.get("Comfy.Locale") ?? document.documentElement.lang);
}

const panels = new Set(); // of every node that is in a graph now

class Panel {
  constructor(node, kind) {
    this.node = node;
    this.host = document.createElement("div");
    // Inline, because Nodes 2.0 of older frontends does not stretch a DOM widget.
    this.host.style.cssText = `width:100%;height:100%;min-height:${kind.minHeight}px;display:flex`;
    const widget = node.addDOMWidget(kind.name, kind.type, this.host, {
      serialize: false, // not part of the prompt …
      hideOnZoom: false,
      getMinHeight: () => kind.minHeight,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // … nor of the workflow
    node.hideOutputImages = true;
    node.setSize([Math.max(node.size[0], kind.size[0]), Math.max(node.size[1], kind.size[1])]);
    this.ready = Promise.all([kind.load(), loadTexts()])
      .then(([module]) => this.mount(module))
      .catch((problem) => this.fail(problem));
    panels.add(this);
  }

  mount(module) {
    if (this.removed) return null;
    this.content = module.mount(this.host, this.node, api);
    this.content.adjust?.(choices);
    return this.content;
  }

  fail(problem) {
    console.error("PanoDiff: the panel of this node could not start.", problem);
    this.host.textContent = `PanoDiff could not start this panel: ${problem.message}`;
  }

  /** Run `action` on the content once it is there, unless the node went before. */
  async with(action) {
    const content = await this.ready;
    if (content && !this.removed) action(content);
  }

  remove() {
    this.removed = true;
    panels.delete(this);
    this.content?.dispose();
    this.content = null;
  }
}

const choices = {}; // of the person, in ComfyUI's settings, for all viewers

/** A setting of the viewers; ComfyUI tells its value at once and whenever it changes. */
function setting(id, name, choice, more) {
  const onChange = (value) => {
    choices[choice] = value;
    for (const panel of panels) panel.with((content) => content.adjust?.({ [choice]: value }));
  };
  return { id: `PanoDiff.Viewer.${id}`, category: ["PanoDiff", "Viewer", id], name, onChange, ...more };
}

const MODES = {
  perspective: "Perspective", flat: "Flat", seam: "Seam", zenith: "Zenith", nadir: "Nadir",
  planet: "Little planet / tunnel", fisheye: "Fisheye 180°", pannini: "Pannini",
  cubemap_cross: "Cubemap cross", cubemap_3x2: "Cubemap 3 × 2",
};

const SETTINGS = [
  setting("InvertDrag", "Dragging moves the view, not the picture", "invertDrag", {
    type: "boolean", defaultValue: false,
    tooltip: "Off: the picture follows the hand. On: the view goes where the hand goes.",
  }),
  setting("Sensitivity", "Drag sensitivity", "sensitivity", {
    type: "slider", defaultValue: 1, attrs: { min: 0.25, max: 4, step: 0.05 },
    tooltip: "How far a drag turns the view. 1: what you hold stays under the hand.",
  }),
  setting("DefaultMode", "View mode of new viewers", "defaultMode", {
    type: "combo", defaultValue: "perspective",
    options: Object.entries(MODES).map(([value, text]) => ({ value, text })),
    tooltip: "Changing it changes the viewers that are open, too.",
  }),
];

/** Call `after` whenever the node's own callback `name` was called. */
function follow(node, name, after) {
  const before = node[name];
  node[name] = function (...args) {
    const result = before?.apply(this, args);
    after(...args);
    return result;
  };
}

/** Have the frontend's draft of the workflow hold what a node remembers now; by itself it looks after the next click. */
function keepDraft() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker); // newer and older frontends
}

/** The key of a node in ComfyUI's table of outputs; nodes in a subgraph carry its id in front. */
function outputKey(node) {
  return node.graph?.isRootGraph === false ? `${node.graph.id}:${node.id}` : String(node.id);
}

app.registerExtension({
  name: "panodiff.panels",
  settings: SETTINGS,

  nodeCreated(node) {
    const kind = PANELS[node.comfyClass];
    if (!kind) return;
    const panel = new Panel(node, kind);
    follow(node, "onExecuted", (output) => panel.with((content) => {
      content.executed(output);
      keepDraft();
    }));
    follow(node, "onConfigure", () => panel.with((content) => content.restore()));
    follow(node, "onRemoved", () => panel.remove());
  },

  /** Results are not part of a saved workflow; the node remembers where its last one is. */
  loadedGraphNode(node) {
    for (const panel of panels) {
      if (panel.node === node) panel.with((content) => content.restore());
    }
  },

  /** The user opened an older result from the queue. */
  onNodeOutputsUpdated(outputs) {
    for (const panel of panels) {
      const output = outputs?.[outputKey(panel.node)];
      if (output) panel.with((content) => content.outputsShown(output));
    }
  },
});

/**
 * A page that plays ComfyUI: places nodes, runs and removes them, and counts what the graphics side holds.
 */

const counts = { textures: 0, programs: 0 };

function count(prototype, name, key, step) {
  const original = prototype[name];
  prototype[name] = function (...args) {
    counts[key] += step;
    return original.apply(this, args);
  };
}

const GL = WebGL2RenderingContext.prototype;
count(GL, "createTexture", "textures", 1);
count(GL, "deleteTexture", "textures", -1);
count(GL, "createProgram", "programs", 1);
count(GL, "deleteProgram", "programs", -1);
const getContext = HTMLCanvasElement.prototype.getContext;
const glContexts = new Set();
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  const context = getContext.call(this, kind, ...rest);
  if (kind === "webgl2" && context && !glContexts.has(context)) glContexts.add(context);
  return context;
};

const { app } = await import("/scripts/app.js");
await import("/extensions/PanoDiff/panodiff.js");
const [extension] = app.extensions;
let nextId = 1;

// Inputs with values that the frontend made into widgets before extensions see the node.
const VALUES = {
  PanoDiff_ViewPanorama: {
    yaw_deg: 0, pitch_deg: 0, roll_deg: 0, fov_deg: 90, width: 768, height: 512, mask_strokes: "",
  },
};

class FakeNode {
  constructor(comfyClass) {
    this.comfyClass = comfyClass;
    this.id = nextId++;
    this.size = [200, 100];
    this.properties = {};
    this.widgets = Object.entries(VALUES[comfyClass] ?? {}).map(([name, value]) => ({ name, value }));
    this.box = document.createElement("div");
    this.box.className = "node";
    this.box.append(document.createElement("div"));
    document.getElementById("graph").append(this.box);
  }

  addDOMWidget(name, type, element, options) {
    const widget = { name, type, element, options };
    this.widgets.push(widget);
    this.box.firstChild.append(element);
    return widget;
  }

  setSize([width, height]) {
    this.size = [width, height];
    this.box.style.width = `${width}px`;
    this.box.style.height = `${height}px`;
  }
}

window.harness = {
  nodes: {},
  app,
  extension,

  place(comfyClass) {
    const node = new FakeNode(comfyClass);
    extension.nodeCreated(node);
    this.nodes[node.id] = node;
    return node.id;
  },

  /** As after opening a workflow: created, configured, then announced. */
  load(comfyClass, properties) {
    const id = this.place(comfyClass);
    this.nodes[id].properties = structuredClone(properties);
    this.nodes[id].onConfigure?.({});
    extension.loadedGraphNode(this.nodes[id]);
    return id;
  },

  run(id, output) {
    this.nodes[id].onExecuted(output);
  },

  remove(id) {
    this.nodes[id].onRemoved?.();
    this.nodes[id].box.remove();
    delete this.nodes[id];
  },

  view(id) {
    return this.nodes[id].widgets.at(-1).element.panoramaView;
  },

  values(id) {
    return Object.fromEntries(this.nodes[id].widgets.map(({ name, value }) => [name, value]));
  },

  /** Mean colour and spread of what a viewer shows, 0…255. */
  pixels(id) {
    const canvas = this.nodes[id].box.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const values = [];
    for (let index = 0; index < data.length; index += 28) values.push(...data.slice(index, index + 3));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    return { width: canvas.width, height: canvas.height, mean, spread };
  },

  counts() {
    const live = [...glContexts].filter((gl) => !gl.isContextLost()).length;
    return { ...counts, contexts: glContexts.size, liveContexts: live };
  },

  async statistics() {
    const { shared } = await import("/extensions/PanoDiff/viewer/gl/renderer.mjs");
    const { viewers, textures } = shared.renderer ?? { viewers: new Set(), textures: new Set() };
    const textureBytes = [...textures].reduce((sum, { bytes }) => sum + bytes, 0);
    return { contexts: shared.renderer ? 1 : 0, viewers: viewers.size, textures: textures.size, textureBytes };
  },

  /** Take the graphics card away, or give it back, as a driver reset does. */
  loseContext() {
    const gl = [...glContexts].find((context) => !context.isContextLost());
    this.loseExtension = gl.getExtension("WEBGL_lose_context");
    this.loseExtension.loseContext();
  },

  restoreContext() {
    this.loseExtension.restoreContext();
  },
};

// What benchmarks/viewer.py runs in the page.
async () => {
  const { createLens } = await import("/extensions/PanoDiff/viewer/geometry/lens.mjs");
  const { MODE_NAMES, homePose } = await import("/extensions/PanoDiff/viewer/geometry/modes.mjs");
  const { DISPLAY, displayIn } = await import("/extensions/PanoDiff/viewer/picture/display.mjs");
  const nextFrame = () => new Promise(requestAnimationFrame);
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  let shown = null;

  /** The longest main-thread task in ms while `work` runs; the browser reports only those from 50 ms on. */
  async function longestTaskDuring(work) {
    const tasks = [];
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
    observer.observe({ entryTypes: ["longtask"] });
    const result = await work();
    await pause(300);
    observer.disconnect();
    return { ...result, longest_task: Math.max(0, ...tasks.map((task) => task.duration)) };
  }

  function finish(gl) {
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  window.measureLoading = async (entry) => {
    const node = harness.place("PanoDiff_ViewPanorama");
    harness.nodes[node].setSize([1300, 760]);
    while (!harness.view(node)) await nextFrame();
    const view = (shown = harness.view(node));
    view.setDisplay({ smooth: false }); // full resolution, also where the window shows less
    await pause(300);
    let start, preview;
    view.drawn.push(() => {
      if (!view.picture || preview) return;
      finish(view.renderer.gl);
      preview = performance.now() - start;
    });
    const times = await longestTaskDuring(async () => {
      start = performance.now();
      harness.run(node, { panodiff_panorama: [entry] });
      while (!preview) await nextFrame();
      const { tiles } = view.picture;
      while (tiles && (!tiles.looked || tiles.timer || tiles.busy || view.frame)) await nextFrame();
      finish(view.renderer.gl);
      return { preview, sharp: performance.now() - start };
    });
    return { ...times, texture_mb: (await harness.statistics()).textureBytes / 1e6 };
  };

  /** Run the node of `measureLoading` again, to the end. */
  window.runAgain = async (entry) => {
    const before = shown.picture;
    harness.run(Object.keys(harness.nodes)[0], { panodiff_panorama: [entry] });
    while (shown.picture === before) await nextFrame();
    await nextFrame();
  };

  /** Milliseconds of finished frames, by mode: drawn, copied to the viewer's canvas and read back. */
  window.measureFrames = async (width, height, count) => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const target = canvas.getContext("2d", { alpha: false, willReadFrequently: shown.renderer.software }); // as the viewer's
    const times = {};
    for (const mode of MODE_NAMES) {
      const pose = homePose(mode, width, height);
      const display = displayIn(mode, DISPLAY);
      await shown.picture.tiles?.complete(createLens(mode, pose, width, height), display.smooth);
      times[mode] = [];
      for (let index = -2; index < count; index += 1) {
        const start = performance.now();
        const lens = createLens(mode, { ...pose, yawDeg: pose.yawDeg + 0.2 * index }, width, height);
        shown.renderer.draw(shown.picture, lens, display, target);
        finish(shown.renderer.gl);
        target.getImageData(0, 0, 1, 1);
        if (index >= 0) times[mode].push(performance.now() - start);
      }
    }
    return times;
  };

  /** The other viewer's node, as ComfyUI's frontend would make it. */
  window.measureOther = async (address) => {
    const { app } = await import("/scripts/app.js");
    await import("/extensions/Other/pano_viewer.js");
    const box = document.createElement("div");
    box.style.cssText = "width:1280px;height:720px";
    document.getElementById("graph").append(box);
    class Node {
      size = [1280, 720];
      addDOMWidget(name, type, element, options) {
        element.style.cssText += "width:1280px;height:720px";
        box.append(element);
        return { options };
      }
    }
    await app.extensions.at(-1).beforeRegisterNodeDef(Node, { name: "PanoramaViewerNode" }, app);
    const node = new Node();
    node.onNodeCreated();
    await pause(300);
    return longestTaskDuring(async () => {
      const { viewer } = node;
      const start = performance.now();
      node.onExecuted({ pano_image: [address] });
      while (!viewer.scene.background) await nextFrame();
      await nextFrame(); // it draws in every frame, before this goes on
      finish(viewer.renderer.getContext());
      return { preview: performance.now() - start };
    });
  };
}

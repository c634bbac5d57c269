/**
 * A second picture, B, compared with the viewer's own, A, through the same camera: wipe, blink, difference. B is one
 * that came with A, or else what another linked viewer shows.
 */

import { ERROR_COLOURS } from "../gl/error_colours.mjs";
import { element, sliderRow, textButton } from "../panel/elements.mjs";
import { closePicture, follow, loadPicture, warningsAbout } from "../picture/source.mjs";
import { text } from "../texts/text.mjs";

const BLINK_MS = 500;
const WAYS = ["first", "wipe", "blink", "difference"];

export class Comparison {
  /** Gives `view` its `compare(source)`. */
  constructor(view) {
    Object.assign(this, { view, edge: 50, scale: 8 });
    this.makeBar(view.overlay);
    // Its thumb is the line itself; arrow keys move it by a hundredth.
    this.divider = element("input", "pd360-divider", {
      type: "range", step: "any", "aria-label": text("divider"),
      input: () => this.set({ edge: this.divider.valueAsNumber }),
    });
    view.canvas.after(this.divider);
    view.setKeys({ a: () => this.other && view.overlay.announce(this.flip()) });
    view.paint = (...how) => this.paint(...how);
    // Another viewer's picture comes and goes.
    view.drawn.push(() => this.other === this.seen || this.set({}));
    view.compare = (source) => this.load(source);
    view.restored = () => {
      this.texture = null; // it went with the context
      this.load(this.source).catch((problem) => view.overlay.say(problem.message));
    };
    this.set({});
  }

  makeBar(overlay) {
    this.choices = WAYS.map((way) => textButton(way, () => this.set({ way }), { key: way === "blink" && "a" }));
    const settings = { range: [1, 32], step: 1, doubling: true, shown: (scale) => `× ${scale}` };
    this.slider = sliderRow("scale", settings, (scale) => this.set({ scale }));
    this.most = element("b", "");
    const legend = element("span", "pd360-legend", {}, "0", this.most);
    legend.style.background = `linear-gradient(90deg, rgb(${ERROR_COLOURS.join("), rgb(")}))`;
    overlay.addBar("pd360-brush-bar pd360-compare", "compare", ...this.choices, this.slider.row, legend);
  }

  /**
   * Compare with a picture, or with none.
   * @param {string|Blob|null} source as for `PanoramaView.show`; throws what loading throws
   */
  async load(source) {
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    this.source = source;
    if (!source) return this.take(null);
    try {
      const picture = await loadPicture(source, this.view.renderer.maxTextureSize, signal);
      if (!signal.aborted) this.take(picture);
      closePicture(picture);
    } catch (problem) {
      if (signal.aborted) return;
      // An older B belongs to an older A.
      this.take(null);
      throw problem;
    }
  }

  take(picture) {
    const { renderer, overlay } = this.view;
    renderer?.deleteTexture(this.texture);
    // Without its context a texture cannot be made; it is loaded again when the context is back.
    this.texture = picture && !renderer.lost ? renderer.createTexture(picture) : null;
    overlay.showNotices([], 1);
    if (this.texture) follow(this.view, this.texture, warningsAbout(picture, "one").map((line) => `B: ${line}`), 1);
    this.set({});
  }

  /** Change the way (one of WAYS), scale, edge (in percent) or flipped: whether blinking shows B. */
  set(changes) {
    const { view, scale, edge, flipped, choices, divider, other } = Object.assign(this, changes);
    // Who links viewers wants to see both, until he says otherwise.
    const way = this.way ?? (this.texture ? "wipe" : "first");
    const on = other ? way : "";
    this.seen = other;
    // The style sheet shows what belongs to it.
    view.root.dataset.compare = on;
    clearInterval(this.timer);
    if (on === "blink") this.timer = setInterval(() => view.camera.prefersStill() || this.flip(), BLINK_MS);
    WAYS.forEach((name, index) => choices[index].setAttribute("aria-pressed", name === way));
    choices[2].textContent = text("blink") + (on !== "blink" ? "" : flipped ? ": B" : ": A");
    divider.setAttribute("aria-valuetext", text("dividerIs", { percent: Math.round(edge) }));
    this.slider.show(scale);
    this.most.textContent = `${Number((255 / scale).toPrecision(3))} / 255`;
    view.requestFrame();
  }

  /** Blink once; returns what is seen now. */
  flip() {
    this.set({ way: "blink", flipped: !this.flipped });
    return this.choices[2].textContent;
  }

  /** B, or nothing. */
  get other() {
    return this.texture ?? this.view.peers().find(({ picture }) => picture)?.picture;
  }

  /** The textures that are looked at: none, A, or A and B. */
  get pictures() {
    const { picture } = this.view;
    return [picture, picture && this.other].filter(Boolean);
  }

  paint(lens, display, target, options) {
    const { renderer, root } = this.view;
    const way = root.dataset.compare;
    const draw = (which, more) => renderer.draw(which, lens, display, target, { ...options, ...more });
    const [one, other] = this.pictures;
    const { width, height } = target.canvas;
    const column = Math.round((this.edge / 100) * width);
    if (!other || way === "first") draw(one ?? null);
    else if (way === "blink") draw(this.flipped ? other : one);
    else if (way === "wipe") {
      draw(one, { span: [0, column] });
      draw(other, { span: [column, width] });
    } else {
      const drawings = [one, other].map((which) => {
        renderer.draw(which, lens, { ...display, seamLine: false }, target, { opacity: 0 });
        return renderer.keepDrawing(width, height);
      });
      draw(null, { difference: { drawings, scale: this.scale } });
      for (const drawing of drawings) renderer.deleteTexture(drawing);
    }
  }
}

/** Playing sequences and videos in a viewer: their bar of controls and their keys. */

import { Film } from "./film.mjs";
import { Sequence } from "./sequence.mjs";
import { element, iconButton, sliderRow } from "../panel/elements.mjs";
import { clamp } from "../geometry/projection.mjs";
import { text } from "../texts/text.mjs";

const [min, max] = [1, 60]; // pictures per second

export class Player {
  /**
   * @param {PanoramaView} view
   * @param {{shown: (index: number) => void, failed: (problem: Error) => void}} told which picture is shown, and
   *     when something cannot be shown
   */
  constructor(view, told) {
    Object.assign(this, { view, told, loop: true, fps: 12 });
    this.keys = {
      " ": () => this.play(), ",": () => this.move(-1), ".": () => this.move(1), l: () => this.toggleLoop(),
    };
    this.makeBar();
    view.sighted = (seen) => this.sighted(seen);
  }

  makeBar() {
    const { keys, fps } = this;
    this.playButton = iconButton("play", keys[" "]);
    this.slider = sliderRow("position", { range: [0, 1], step: 1 }, (position) => this.seek(position));
    const rate = element("input", "pd360-select", {
      type: "number", min, max, value: fps,
      change: () => (rate.value = this.fps = clamp(Math.round(rate.valueAsNumber) || 1, min, max)),
    });
    this.rate = element("label", "pd360-rate", { title: text("fps") }, rate, "fps");
    this.loopButton = iconButton("loop", keys.l, { "aria-pressed": true });
    this.bar = this.view.overlay.addBar(
      "pd360-player", "player", iconButton("previous", keys[","]), this.playButton,
      iconButton("next", keys["."]), this.slider.row, this.loopButton, this.rate,
    );
    this.bar.hidden = true;
  }

  /**
   * Show pictures, or one video, from now on. A single picture is shown without the bar.
   * @param {string[]|Blob[]} sources same-origin addresses or files
   * @param {{video?: boolean}} options and those of `PanoramaView.show`
   */
  open(sources, { video, ...options } = {}) {
    const { view, bar } = this;
    const position = video || !this.track?.sources ? 0 : Math.min(this.track.position, sources.length - 1);
    this.close();
    bar.hidden = !video && sources.length < 2;
    if (bar.hidden) return this.tell(view.show(sources[0], options), 0);
    this.rate.hidden = video;
    view.setKeys(this.keys);
    this.track = new (video ? Film : Sequence)(sources, options, this);
    return this.seek(position);
  }

  seek(position) {
    return this.tell(this.track.seek(position), this.track.sources ? position : 0);
  }

  /** Say what came of showing the picture `index`; a later one may have overtaken it. */
  async tell(showing, index) {
    try {
      if (await showing) this.told.shown(index);
    } catch (problem) {
      if (this.track) this.play(false);
      this.told.failed(problem);
    }
  }

  play(on = !this.track.playing) {
    this.track.play(on);
    this.show();
  }

  move(steps) {
    const { control } = this.slider.row;
    this.play(false);
    control.stepUp(steps);
    this.seek(control.valueAsNumber);
  }

  toggleLoop() {
    this.loop = !this.loop;
    this.loopButton.setAttribute("aria-pressed", this.loop);
  }

  /** Tell where the track is. */
  show() {
    const { track, slider, playButton } = this;
    Object.assign(slider.row.control, { max: track.last, step: track.step });
    slider.show(track.position, track.told);
    playButton.classList.toggle("pd360-playing", track.playing);
    playButton.title = text(track.playing ? "pause" : "play");
  }

  /** Out of sight it rests. */
  sighted(seen) {
    const rests = !seen && this.track?.playing;
    if (rests || (seen && this.rests)) this.play(seen);
    this.rests = rests;
  }

  close() {
    this.track?.dispose();
    this.track = this.rests = null;
    this.view.setKeys(this.keys, false);
  }
}

/**
 * A sequence of pictures as the player plays it. Those that come next are decoded before they are shown, and as many
 * are kept as a budget of memory holds.
 */

import { closePicture, pictureFor } from "../picture/source.mjs";

const BUDGET_BYTES = 256 * 2 ** 20;
const AHEAD = 8; // pictures to decode before a playing sequence needs them

/** The `count` indices from `index` on, around the end. */
export function upcoming(index, total, count) {
  return Array.from({ length: Math.min(total, count) }, (_, step) => (index + step) % total);
}

/** Where `steps` lead from `position`; without `loop` they end at the last picture. */
export function stepped(position, steps, total, loop) {
  return loop ? (position + steps) % total : Math.min(position + steps, total - 1);
}

export class Sequence {
  /**
   * @param {string[]|Blob[]} sources as `pictureFor` takes them; of one size
   * @param {object} options of `PanoramaView.show`
   * @param {Player} player
   */
  constructor(sources, options, player, budget = BUDGET_BYTES) {
    Object.assign(this, { sources, options, player, budget, position: 0, step: 1, last: sources.length - 1 });
    this.playing = false;
    this.frames = new Map(); // by index: {arriving, done, picture}
    this.room = 2; // how many the budget holds, at least what is shown and the next; known better after the first
  }

  get told() {
    return `${this.position + 1} / ${this.sources.length}`;
  }

  seek(position) {
    this.position = position;
    this.trim();
    this.player.show();
    const source = { ready: this.frames.get(position)?.done, load: () => this.load(position) };
    return this.player.view.show(source, this.options);
  }

  async load(index) {
    const picture = await this.frame(index).arriving;
    const count = Math.min(this.playing ? AHEAD : 2, this.room);
    for (const next of upcoming(this.position, this.sources.length, count)) this.frame(next);
    return picture;
  }

  /** The picture `index`, which is decoded from now on if it is not yet. */
  frame(index) {
    const known = this.frames.get(index);
    if (known) return known;
    const frame = {};
    this.frames.set(index, frame);
    frame.arriving = this.decode(index, frame);
    const done = () => (frame.done = true);
    frame.arriving.then(done, done); // a problem is told by who shows it
    return frame;
  }

  async decode(index, frame) {
    const picture = await pictureFor(this.sources[index], this.options, this.player.view.renderer.maxTextureSize);
    const { width, height } = picture.bitmap;
    this.room = Math.max(2, Math.floor(this.budget / (4 * width * height)));
    frame.picture = { ...picture, kept: true };
    if (this.frames.get(index) !== frame) closePicture(picture); // not wanted any more
    this.trim();
    return frame.picture;
  }

  /** Let go of what there is no room for. */
  trim() {
    const wanted = upcoming(this.position, this.sources.length, this.room);
    for (const [index, { picture }] of this.frames) {
      if (wanted.includes(index)) continue;
      this.frames.delete(index);
      if (picture) closePicture(picture);
    }
  }

  play(on) {
    this.playing = on;
    cancelAnimationFrame(this.timer);
    if (!on) return;
    this.player.seek(!this.player.loop && this.position === this.last ? 0 : this.position);
    this.shownAt = performance.now();
    this.tick(this.shownAt);
  }

  /** Show what is due. A picture that is not decoded yet is waited for; what is shown stays until then. */
  tick(now) {
    this.timer = requestAnimationFrame((later) => this.tick(later));
    const { loop, fps } = this.player;
    const steps = Math.floor(((now - this.shownAt) * fps) / 1000);
    if (steps < 1) return;
    if (!loop && this.position === this.last) return this.player.play(false);
    const after = (count) => stepped(this.position, count, this.sources.length, loop);
    const due = [steps, 1].find((count) => this.frames.get(after(count))?.done);
    if (!due) return;
    // In step with the clock, unless pictures had to be left out or waited for.
    this.shownAt = steps === 1 ? this.shownAt + 1000 / fps : now;
    this.player.seek(after(due));
  }

  dispose() {
    this.play(false);
    this.sources = [];
    this.trim();
  }
}

/** A video file as the player plays it: the browser decodes it, its frames become the view's picture. */

import { renew } from "../picture/source.mjs";
import { text } from "../texts/text.mjs";

export class Film {
  /** As for a `Sequence`, with the address of one video. */
  constructor([address], options, player) {
    Object.assign(this, { options, player, step: 0.04 });
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
    const arriving = new Promise((resolve, reject) => {
      this.on("loadeddata", resolve);
      this.on("error", () => reject(new Error(text("badVideo"))));
    });
    this.source = { load: () => arriving.then(() => this.picture()) };
    for (const name of ["timeupdate", "play", "pause"]) this.on(name, () => player.show());
    for (const name of ["seeked", "play"]) this.on(name, () => this.following || this.follow());
    this.video.src = address;
  }

  on(name, action) {
    this.video.addEventListener(name, () => this.gone || action());
  }

  picture() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (Math.max(width, height) > this.player.view.renderer.maxTextureSize) {
      throw new Error(text("largeVideo", { size: `${width} × ${height}` }));
    }
    return { bitmap: this.video, width, height, kept: true };
  }

  get last() {
    return this.video.duration || 0;
  }

  get position() {
    return this.video.currentTime;
  }

  get playing() {
    return !this.video.paused;
  }

  get told() {
    return `${this.position.toFixed(1)} / ${this.last.toFixed(1)} s`;
  }

  /** The first call shows the film. */
  seek(position) {
    const { player } = this;
    if (this.ready) this.video.currentTime = position;
    this.shown ??= player.view.show(this.source, this.options).then((shown) => {
      this.ready = shown;
      if (shown) player.show();
      return shown;
    });
    return this.shown;
  }

  play(on) {
    if (on) this.video.play().catch(() => {}); // a pause came before it began
    else this.video.pause();
  }

  /** Take over each frame as the browser presents it. */
  follow() {
    const { video, source, player: { view, loop } } = this;
    this.following = this.playing && !this.gone;
    video.loop = loop;
    if (this.ready && view.picture && view.loaded?.source === source) {
      view.renderer.fill(view.picture, video);
      renew(view);
    }
    if (!this.following) return;
    const next = () => this.follow();
    video.requestVideoFrameCallback?.(next) ?? requestAnimationFrame(next);
  }

  dispose() {
    this.gone = true;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load(); // lets go of the file and the decoder
  }
}

/**
 * What lies over the picture: toolbar, compass and read-out, notices, and the texts for screen readers.
 */

import { element, iconButton } from "./elements.mjs";
import { OptionsPanel } from "./options.mjs";
import { compassPoint, formatDegrees } from "../geometry/projection.mjs";
import { text } from "../texts/text.mjs";

const SAY_MS = 6000; // how long a line about what was done stays
const ANNOUNCE_AFTER_MS = 600; // a screen reader hears where the view came to rest, not every frame

let serial = 0;

export class Overlay {
  /** @param {{zoomIn, zoomOut, reset, fullscreen, setMode, setDisplay, setLength}} actions what the buttons do */
  constructor(root, actions) {
    serial += 1;
    this.root = root;
    this.angles = element("span", "pd360-angles");
    const [beam, north] = [element("span", "pd360-beam"), element("span", "pd360-north")];
    this.dial = element("span", "pd360-dial", {}, beam, north);
    this.readout = element("div", "pd360-readout", { "aria-hidden": "true" }, this.dial, this.angles);
    this.live = element("div", "pd360-unseen", { "aria-live": "polite" });
    this.help = element("div", "pd360-unseen", { id: `pd360-help-${serial}` }, text("help"));
    this.notices = element("div", "pd360-notices", { role: "status" });
    this.message = element("div", "pd360-message", { role: "status" });
    this.caption = element("div", "pd360-caption");
    this.progress = element("div", "pd360-progress", { "aria-hidden": "true" });
    this.options = new OptionsPanel(root, actions);
    this.toolbar = this.makeToolbar(actions);
    const bar = element("div", "pd360-bar", {}, this.readout, this.toolbar);
    this.foot = element("div", "pd360-foot", {}, this.caption, bar);
    this.parts = [this.progress, this.message, this.notices, this.foot, this.live, this.help];
    root.setAttribute("aria-describedby", this.help.id);
    this.options.panel.before(...this.parts); // Tab goes from the toolbar into the panel
  }

  makeToolbar(actions) {
    this.fullscreenButton = iconButton("fullscreen", text("fullscreen"), actions.fullscreen);
    return element(
      "div", "pd360-toolbar", { role: "toolbar", "aria-label": text("toolbar") },
      this.options.opener,
      iconButton("zoom-in", text("zoomIn"), actions.zoomIn),
      iconButton("zoom-out", text("zoomOut"), actions.zoomOut),
      iconButton("reset", text("reset"), actions.reset),
      this.fullscreenButton,
    );
  }

  /** A further button, which a key does as well; the help for screen readers names both. */
  addTool(icon, label, key, action) {
    const made = iconButton(icon, `${label} (${key.toUpperCase()})`, action);
    made.setAttribute("aria-keyshortcuts", key);
    this.toolbar.insertBefore(made, this.toolbar.querySelector(".pd360-zoom-in"));
    this.help.append(` ${key.toUpperCase()}: ${label}.`);
    return made;
  }

  /** A line for screen readers only. */
  announce(line) {
    this.live.textContent = line;
  }

  /** A line about what was just done; it goes by itself. */
  say(line) {
    this.said?.remove();
    this.said = element("p", "pd360-notice pd360-said", {}, line);
    this.notices.append(this.said);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.said.remove(), SAY_MS);
  }

  /**
   * The live read-out; cheap enough for every frame. `magnification` stands for the field of view in modes that
   * show a whole picture; null in the others.
   */
  showPose({ yawDeg, pitchDeg, fovDeg }, mode, magnification) {
    const percent = magnification === null ? null : Math.round(100 * magnification);
    const parts = [
      text(compassPoint(yawDeg)),
      `${text("yaw")} ${formatDegrees(yawDeg)}`, `${text("pitch")} ${formatDegrees(pitchDeg)}`,
      percent === null ? `${text("fov")} ${Math.round(fovDeg)}°` : `${text("zoom")} ${percent} %`,
    ];
    if (mode !== "perspective") parts.unshift(text(mode));
    const line = parts.join(" · ");
    if (this.angles.textContent === line) return;
    this.angles.textContent = line;
    this.dial.style.setProperty("--pd360-yaw", `${yawDeg.toFixed(2)}deg`);
    this.dial.style.setProperty("--pd360-fov", `${Math.min(fovDeg, 360).toFixed(2)}deg`);
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => {
      const [yaw, pitch, fov] = [yawDeg, pitchDeg, fovDeg].map(Math.round);
      const name = mode === "perspective" ? "" : `${text(mode)}. `;
      const values = { mode: name, yaw, pitch, fov, percent };
      this.announce(text(percent === null ? "spokenFov" : "spokenZoom", values));
    }, ANNOUNCE_AFTER_MS);
  }

  /** Warnings that stay visible; texts only, never markup. */
  showNotices(lines) {
    const joined = lines.join("\n");
    if (joined === this.noticed) return; // of the next picture of a sequence
    this.noticed = joined;
    this.notices.replaceChildren(...lines.map((line) => element("p", "pd360-notice", {}, line)));
  }

  /** A line in the middle while there is no picture; "" removes it. */
  showMessage(line, isError = false) {
    this.message.textContent = line;
    this.message.classList.toggle("pd360-error", isError);
  }

  /** Lines about the picture, such as its seam figures. */
  showCaption(lines) {
    this.caption.replaceChildren(...lines.map((line) => element("p", "", {}, line)));
  }

  showBusy(busy) {
    this.root.setAttribute("aria-busy", String(busy));
    this.progress.classList.toggle("pd360-busy", busy);
  }

  showFullscreen(active) {
    this.root.classList.toggle("pd360-is-fullscreen", active);
    this.fullscreenButton.setAttribute("aria-pressed", String(active));
  }

  dispose() {
    clearTimeout(this.announcing);
    clearTimeout(this.saying);
    for (const part of this.parts) part.remove();
    this.options.dispose();
  }
}

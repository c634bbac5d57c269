/**
 * What lies over the picture: toolbar, compass and read-out, notices, and the texts for screen readers.
 */

import { element, group, iconButton, newId } from "./elements.mjs";
import { OptionsPanel } from "./options.mjs";
import { compassPoint, formatDegrees } from "../geometry/projection.mjs";
import { text } from "../texts/text.mjs";

const SAY_MS = 6000; // how long a line about what was done stays
const ANNOUNCE_AFTER_MS = 600; // a screen reader hears where the view came to rest, not every frame

export class Overlay {
  /** @param {PanoramaView} view */
  constructor(view) {
    const { root } = view;
    this.view = view;
    this.angles = element("span", "pd360-angles");
    this.dial = element("span", "pd360-dial");
    const readout = element("div", "pd360-readout", { "aria-hidden": true }, this.dial, this.angles);
    this.live = element("div", "pd360-unseen", { "aria-live": "polite" });
    this.help = element("div", "pd360-unseen", { id: newId() }, text("help"));
    this.notices = element("div", "pd360-notices", { role: "status" }, element("div", ""), element("div", ""));
    this.message = element("div", "pd360-message", { role: "status" });
    this.options = new OptionsPanel(view);
    this.toolbar = this.makeToolbar(view);
    this.foot = element("div", "pd360-foot", {}, this.toolbar, this.options.panel);
    root.setAttribute("aria-describedby", this.help.id);
    root.append(
      element("div", "pd360-progress", { "aria-hidden": true }),
      this.message, this.notices, readout, this.foot, this.live, this.help,
    );
  }

  makeToolbar(view) {
    const fullscreen = iconButton("fullscreen", () => view.toggleFullscreen());
    view.root.addEventListener("fullscreenchange", () => fullscreen.setAttribute("aria-pressed", view.isFullscreen));
    return element(
      "div", "pd360-toolbar", { role: "toolbar", "aria-label": text("toolbar") },
      this.options.opener,
      iconButton("zoomIn", () => view.zoom(1)),
      iconButton("zoomOut", () => view.zoom(-1)),
      iconButton("reset", () => view.reset()),
      fullscreen,
    );
  }

  /** A further button with `more` attributes, which a key does as well; the help for screen readers names both. */
  addTool(name, key, action, more) {
    const made = iconButton(name, action, { key, ...more });
    this.view.setKeys({ [key]: action });
    this.toolbar.querySelector(".pd360-icon-zoomIn").before(made);
    this.help.append(` ${key.toUpperCase()}: ${text(name)}.`);
    return made;
  }

  /** A further bar of controls, above the toolbar. */
  addBar(...what) {
    const made = group(...what);
    this.toolbar.before(made);
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
    const percent = Math.round(100 * magnification);
    const said = (key, between, [yaw, pitch]) => {
      const name = mode === "perspective" ? "" : text(mode) + between;
      return name + text(key, { facing: text(compassPoint(yawDeg)), yaw, pitch, fov: Math.round(fovDeg), percent });
    };
    const line = said(percent ? "seenZoom" : "seenFov", " · ", [yawDeg, pitchDeg].map(formatDegrees));
    if (this.angles.textContent === line) return;
    this.angles.textContent = line;
    this.dial.style.cssText = `--pd360-yaw: ${yawDeg}deg; --pd360-fov: ${Math.min(fovDeg, 360)}deg`;
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => {
      this.announce(said(percent ? "spokenZoom" : "spokenFov", ". ", [yawDeg, pitchDeg].map(Math.round)));
    }, ANNOUNCE_AFTER_MS);
  }

  /** Warnings that stay visible, `about` the picture (0) or another one (1); texts only, never markup. */
  showNotices(lines, about = 0) {
    const part = this.notices.children[about];
    if (part.textContent === lines.join("")) return; // of the next picture of a sequence
    part.replaceChildren(...lines.map((line) => element("p", "pd360-notice", {}, line)));
  }

  /** A line in the middle while there is no picture; "" removes it. */
  showMessage(line, isError = false) {
    this.message.textContent = line;
    this.message.classList.toggle("pd360-error", isError);
  }

  showBusy(busy) {
    this.view.root.setAttribute("aria-busy", busy);
  }
}

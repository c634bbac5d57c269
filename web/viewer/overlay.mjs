/**
 * What lies over the picture: toolbar, compass and read-out, notices, and the texts for screen readers.
 */

import { compassPoint, formatDegrees } from "./projection.mjs";

const ANNOUNCE_AFTER_MS = 600; // a screen reader hears where the view came to rest, not every frame
const HELP =
  "Drag, or use the arrow keys, to look around. " +
  "Plus and minus zoom, Home or 0 resets the view, F is full screen.";

let serial = 0;

function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export class Overlay {
  /** @param {{zoomIn, zoomOut, reset, fullscreen, page}} actions what the toolbar's buttons do */
  constructor(root, actions) {
    serial += 1;
    this.root = root;
    this.angles = element("span", "pd360-angles");
    const [beam, north] = [element("span", "pd360-beam"), element("span", "pd360-north")];
    this.dial = element("span", "pd360-dial", {}, beam, north);
    this.readout = element("div", "pd360-readout", { "aria-hidden": "true" }, this.dial, this.angles);
    this.live = element("div", "pd360-unseen", { "aria-live": "polite" });
    this.help = element("div", "pd360-unseen", { id: `pd360-help-${serial}` }, HELP);
    this.notices = element("div", "pd360-notices", { role: "status" });
    this.message = element("div", "pd360-message", { role: "status" });
    this.caption = element("div", "pd360-caption");
    this.progress = element("div", "pd360-progress", { "aria-hidden": "true" });
    this.toolbar = this.makeToolbar(actions);
    const bar = element("div", "pd360-bar", {}, this.readout, this.toolbar);
    const foot = element("div", "pd360-foot", {}, this.caption, bar);
    this.parts = [this.progress, this.message, this.notices, foot, this.live, this.help];
    root.setAttribute("aria-describedby", this.help.id);
    root.append(...this.parts);
  }

  makeToolbar(actions) {
    const button = (name, label, action) => {
      const attributes = { type: "button", title: label, "aria-label": label };
      const made = element("button", `pd360-button pd360-${name}`, attributes);
      made.addEventListener("click", action);
      return made;
    };
    this.fullscreenButton = button("fullscreen", "Full screen (F)", actions.fullscreen);
    this.pageLabel = element("span", "pd360-page");
    this.pager = element(
      "span", "pd360-pager", { hidden: "" },
      button("previous", "Previous picture", () => actions.page(-1)),
      this.pageLabel,
      button("next", "Next picture", () => actions.page(1)),
    );
    return element(
      "div", "pd360-toolbar", { role: "toolbar", "aria-label": "View" },
      this.pager,
      button("zoom-in", "Zoom in (+)", actions.zoomIn),
      button("zoom-out", "Zoom out (−)", actions.zoomOut),
      button("reset", "Reset the view (Home)", actions.reset),
      this.fullscreenButton,
    );
  }

  /** The live read-out; cheap enough for every frame. */
  showPose({ yawDeg, pitchDeg, fovDeg }) {
    const text = `${compassPoint(yawDeg)} · yaw ${formatDegrees(yawDeg)} · pitch ${formatDegrees(pitchDeg)}`;
    const withFov = `${text} · fov ${Math.round(fovDeg)}°`;
    if (this.angles.textContent === withFov) return;
    this.angles.textContent = withFov;
    this.dial.style.setProperty("--pd360-yaw", `${yawDeg.toFixed(2)}deg`);
    this.dial.style.setProperty("--pd360-fov", `${fovDeg.toFixed(2)}deg`);
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => {
      const [yaw, pitch, fov] = [yawDeg, pitchDeg, fovDeg].map(Math.round);
      this.live.textContent = `Yaw ${yaw}, pitch ${pitch}, field of view ${fov} degrees`;
    }, ANNOUNCE_AFTER_MS);
  }

  /** Warnings that stay visible; texts only, never markup. */
  showNotices(texts) {
    this.notices.replaceChildren(...texts.map((text) => element("p", "pd360-notice", {}, text)));
  }

  /** A line in the middle while there is no picture; "" removes it. */
  showMessage(text, isError = false) {
    this.message.textContent = text;
    this.message.classList.toggle("pd360-error", isError);
  }

  /** Lines about the picture, such as its seam figures. */
  showCaption(lines) {
    this.caption.replaceChildren(...lines.map((line) => element("p", "", {}, line)));
  }

  /** Which picture of a batch is shown; hidden for a single one. */
  showPage(index, total) {
    this.pager.hidden = total < 2;
    this.pageLabel.textContent = `${index + 1} / ${total}`;
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
    for (const part of this.parts) part.remove();
  }
}

/** The panel over the picture where modes, display settings and the size of pictures are chosen. */

import { LENGTHS } from "../picture/capture.mjs";
import { DISPLAY, RANGES } from "../picture/display.mjs";
import { element, group, iconButton, newId, selectRow, sliderRow, textButton } from "./elements.mjs";
import { MODE_NAMES, keyOf } from "../geometry/modes.mjs";
import { EYES, STEREO } from "../picture/stereo.mjs";
import { text } from "../texts/text.mjs";

const SLIDERS = {
  exposureEv: {
    range: RANGES.exposureEv, step: 0.1,
    shown: (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} EV`,
  },
  gamma: { range: RANGES.gamma, step: 0.05, shown: (value) => value.toFixed(2) },
};

/** By name, whether they belong to the seam view only. */
const SWITCHES = { checker: false, seamLine: true, contrast: true, heat: false };

export class OptionsPanel {
  /** @param {PanoramaView} view */
  constructor(view) {
    this.view = view;
    this.shows = []; // what shows a setting, each called with all of them and the mode
    const id = newId();
    this.opener = iconButton("options", () => this.toggle(), { "aria-expanded": false, "aria-controls": id });
    this.panel = group(
      "pd360-panel", "options", this.makeModes(), this.makeDisplay(), this.makeStereo(),
      this.makePictures(),
    );
    Object.assign(this.panel, { id, hidden: true });
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle(false);
    });
    this.show();
  }

  makeModes() {
    const buttons = MODE_NAMES.map((name) => {
      const key = keyOf(name);
      const made = textButton(name, () => this.view.setMode(name), { key });
      made.prepend(element("kbd", "pd360-key", { "aria-hidden": true }, key));
      this.shows.push((_, mode) => made.setAttribute("aria-pressed", name === mode));
      return made;
    });
    return group("pd360-modes", "modes", ...buttons);
  }

  makeDisplay() {
    const sliders = Object.entries(SLIDERS).map(([name, settings]) => {
      const { row, show } = sliderRow(name, settings, (value) => this.view.setDisplay({ [name]: value }));
      this.shows.push((display) => show(display[name]));
      return row;
    });
    const switches = Object.entries(SWITCHES).map(([name, ofSeam]) => {
      const made = textButton(name, () => this.view.setDisplay({ [name]: !this.view.display[name] }));
      this.shows.push((display, mode) => {
        made.setAttribute("aria-pressed", display[name]);
        made.hidden = ofSeam && mode !== "seam";
      });
      return made;
    });
    const { length, ...others } = DISPLAY;
    const neutral = textButton("neutral", () => this.view.setDisplay(others));
    return group("pd360-display", "display", ...sliders, ...switches, neutral);
  }

  makeStereo() {
    const named = (choice) => text(`${choice}Eye`);
    const eyes = this.select("eye", EYES, named);
    this.shows.push(() => (eyes.hidden = !this.view.picture?.right)); // none to choose from
    return group("pd360-display", "stereo", this.select("stereo", STEREO, named), eyes);
  }

  makePictures() {
    const named = (length) => (Number(length) ? length : text(`${length}Length`));
    return group("pd360-display", "pictures", this.select("length", LENGTHS, named));
  }

  /** A list for the setting `name`. */
  select(name, choices, named) {
    const row = selectRow(name, choices, named, (choice) => this.view.setDisplay({ [name]: choice }));
    this.shows.push((display) => (row.control.value = display[name]));
    return row;
  }

  /** Opening moves the focus to the mode that is on; closing moves it back to the button. */
  toggle(open = this.panel.hidden) {
    const { panel, opener } = this;
    if (open !== panel.hidden) return;
    const hadFocus = panel.contains(document.activeElement);
    panel.hidden = !open;
    opener.setAttribute("aria-expanded", open);
    if (open) panel.querySelector("[aria-pressed=true]").focus({ preventScroll: true });
    else if (hadFocus) opener.focus({ preventScroll: true });
  }

  /** What the view is set to. */
  show() {
    const { display, mode } = this.view;
    for (const show of this.shows) show(display, mode);
  }
}

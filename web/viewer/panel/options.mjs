/** The panel over the picture where modes, display settings and the size of pictures are chosen. */

import { LENGTHS } from "../picture/capture.mjs";
import { DISPLAY, EXPOSURE_RANGE_EV, GAMMA_RANGE } from "../picture/display.mjs";
import { element, iconButton, selectRow, sliderRow } from "./elements.mjs";
import { MODE_NAMES, keyOf } from "../geometry/modes.mjs";
import { EYES, STEREO } from "../picture/stereo.mjs";
import { text } from "../texts/text.mjs";

const SLIDERS = {
  exposureEv: {
    range: EXPOSURE_RANGE_EV, step: 0.1,
    shown: (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} EV`,
  },
  gamma: { range: GAMMA_RANGE, step: 0.05, shown: (value) => value.toFixed(2) },
};

const SWITCHES = ["checker", "seamLine", "contrast", "heat"];
const ONLY_AT_THE_SEAM = ["seamLine", "contrast"];

let serial = 0;

export class OptionsPanel {
  /**
   * @param {HTMLElement} root the viewer
   * @param {{setMode: (mode: string) => void, setDisplay: (changes: object) => void,
   *     setLength: (name: string) => void}} actions
   */
  constructor(root, actions) {
    serial += 1;
    this.root = root;
    this.actions = actions;
    const id = `pd360-options-${serial}`;
    this.opener = iconButton("options", text("options"), () => this.toggle());
    this.opener.setAttribute("aria-expanded", "false");
    this.opener.setAttribute("aria-controls", id);
    this.panel = element(
      "div", "pd360-panel", { id, role: "group", "aria-label": text("options"), hidden: "" },
      this.makeModes(), this.makeDisplay(), this.makeStereo(), this.makePictures(),
    );
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.toggle(false);
    });
    root.append(this.panel);
    this.showMode("perspective");
    this.showDisplay(DISPLAY);
    this.showEyes(false);
  }

  makeModes() {
    this.modeButtons = new Map(MODE_NAMES.map((mode) => {
      const key = element("kbd", "pd360-key", { "aria-hidden": "true" }, keyOf(mode));
      const made = element("button", "pd360-choice", { type: "button" }, key, text(mode));
      made.setAttribute("aria-keyshortcuts", keyOf(mode));
      made.addEventListener("click", () => this.actions.setMode(mode));
      return [mode, made];
    }));
    const attributes = { role: "group", "aria-label": text("modes") };
    return element("div", "pd360-modes", attributes, ...this.modeButtons.values());
  }

  makeDisplay() {
    this.sliders = new Map(Object.entries(SLIDERS).map(([name, settings]) =>
      [name, sliderRow({ ...settings, label: text(name) },
        (value) => this.actions.setDisplay({ [name]: value }))]));
    this.switches = new Map(SWITCHES.map((name) => {
      const made = element("button", "pd360-choice", { type: "button", "aria-pressed": "false" }, text(name));
      made.addEventListener("click", () => {
        this.actions.setDisplay({ [name]: made.getAttribute("aria-pressed") !== "true" });
      });
      return [name, made];
    }));
    const neutral = element("button", "pd360-choice", { type: "button" }, text("neutral"));
    neutral.addEventListener("click", () => this.actions.setDisplay(DISPLAY));
    const rows = [...this.sliders.values()].map(({ row }) => row);
    const attributes = { role: "group", "aria-label": text("display") };
    return element("div", "pd360-display", attributes, ...rows, ...this.switches.values(), neutral);
  }

  makePictures() {
    const named = (name) => (Number(name) ? name : text(`${name}Length`));
    const row = selectRow(text("length"), LENGTHS, named, (name) => this.actions.setLength(name));
    this.length = row.control;
    return element("div", "pd360-display", { role: "group", "aria-label": text("pictures") }, row);
  }

  makeStereo() {
    const named = (name) => text(`${name}Eye`);
    const rows = {
      stereo: selectRow(text("stereo"), STEREO, named, (stereo) => this.actions.setDisplay({ stereo })),
      eye: selectRow(text("eye"), EYES, named, (eye) => this.actions.setDisplay({ eye })),
    };
    this.selects = Object.entries(rows).map(([name, row]) => [name, row.control]);
    this.eyeRow = rows.eye;
    return element("div", "pd360-display", { role: "group", "aria-label": text("stereo") }, ...Object.values(rows));
  }

  /** Whether there are two eyes to choose from. */
  showEyes(two) {
    this.eyeRow.hidden = !two;
  }

  /** One of LENGTHS. */
  showLength(name) {
    this.length.value = name;
  }

  get open() {
    return !this.panel.hidden;
  }

  /** Opening moves the focus to the mode that is on; closing moves it back to the button. */
  toggle(open = !this.open) {
    if (open === this.open) return;
    const hadFocus = this.panel.contains(document.activeElement);
    this.panel.hidden = !open;
    this.opener.setAttribute("aria-expanded", String(open));
    if (open) this.modeButtons.get(this.mode).focus({ preventScroll: true });
    else if (hadFocus) this.opener.focus({ preventScroll: true });
  }

  showMode(mode) {
    this.mode = mode;
    for (const [name, made] of this.modeButtons) made.setAttribute("aria-pressed", String(name === mode));
    for (const name of ONLY_AT_THE_SEAM) this.switches.get(name).hidden = mode !== "seam";
  }

  showDisplay(display) {
    for (const [name, { show }] of this.sliders) show(display[name], SLIDERS[name].shown(display[name]));
    for (const [name, made] of this.switches) made.setAttribute("aria-pressed", String(display[name]));
    for (const [name, made] of this.selects) made.value = display[name];
  }

  dispose() {
    this.panel.remove();
  }
}

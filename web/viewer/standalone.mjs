/**
 * The offline page: one HTML file that holds these modules and the picture. It reads the picture from the
 * page's own <img>, which is also what is seen where scripts or WebGL2 are missing.
 */

import { Comparison } from "./compare/comparison.mjs";
import { addHistogram } from "./compare/histogram.mjs";
import { MeasuresTool } from "./panel/measures.mjs";
import { DE } from "./texts/de.mjs";
import { EN } from "./texts/en.mjs";
import { Gyroscope } from "./motion/gyroscope.mjs";
import { PanoramaView } from "./panorama_view.mjs";
import { languageOf, text, useTexts } from "./texts/text.mjs";

/** A page from a file cannot fetch a table, so it holds all of them. */
const TEXTS = { en: EN, de: DE };

function embeddedFile(image) {
  const [, type, , data] = image.src.split(/[:;,]/); // data:image/png;base64,…
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type });
}

async function start() {
  const image = document.getElementById("picture");
  const file = embeddedFile(image);
  // Browsers refuse to save long data addresses; an address of the bytes in memory works everywhere.
  const download = document.getElementById("download");
  download.href = URL.createObjectURL(file);
  download.textContent = text("download");
  const view = new PanoramaView(document.getElementById("viewer"), { label: document.title });
  new MeasuresTool(view);
  // A script may give view.compare(source) a second picture.
  addHistogram(view, new Comparison(view));
  view.gyroscope = new Gyroscope(view);
  await view.show(file);
  view.focus();
}

const language = languageOf(navigator.language);
useTexts(TEXTS[language]);
document.documentElement.lang = language;
document.documentElement.classList.remove("no-script");
start().catch((problem) => {
  document.getElementById("problem").textContent = text("flatInstead", { problem: problem.message });
  document.documentElement.classList.add("no-script");
});

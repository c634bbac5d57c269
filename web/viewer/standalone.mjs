/**
 * The offline page: one HTML file that holds these modules and the picture. It reads the picture from the
 * page's own <img>, which is also what is seen where scripts or WebGL2 are missing.
 */

import { PanoramaView } from "./panorama_view.mjs";

function embeddedFile(image) {
  const [head, data] = image.src.split(",", 2);
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: head.slice("data:".length, head.indexOf(";")) });
}

async function start() {
  const image = document.getElementById("picture");
  const file = embeddedFile(image);
  // Browsers refuse to save long data addresses; an address of the bytes in memory works everywhere.
  document.getElementById("download").href = URL.createObjectURL(file);
  const view = new PanoramaView(document.getElementById("viewer"), { label: document.title });
  await view.show(file);
  // Keys work at once; the ring appears with the first key, not before.
  view.root.focus({ preventScroll: true, focusVisible: false });
}

document.documentElement.classList.remove("no-script");
start().catch((problem) => {
  document.getElementById("problem").textContent = `${problem.message} Here is the flat picture instead.`;
  document.documentElement.classList.add("no-script");
});

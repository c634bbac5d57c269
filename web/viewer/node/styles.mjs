/** The style sheet beside these modules, linked once per page. */

import { element } from "../panel/elements.mjs";

export function ensureStyles() {
  const href = new URL("../viewer.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(element("link", "", { rel: "stylesheet", href }));
}

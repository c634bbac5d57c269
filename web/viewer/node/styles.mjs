/** The style sheet beside these modules, linked once per page. */

export function ensureStyles() {
  const href = new URL("../viewer.css", import.meta.url).href;
  for (const link of document.querySelectorAll("link[rel=stylesheet]")) {
    if (link.href === href) return;
  }
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  document.head.append(link);
}

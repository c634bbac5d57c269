/** The viewers of a page that are linked: where one goes, the others go, and they can be compared. No DOM here. */

import { text } from "../texts/text.mjs";

// Viewer → where it was last, so that only one that moved by itself leads.
const linked = new Map();

const placeOf = (view) => JSON.stringify([view.mode, view.pose]);

function follow(view, leader) {
  view.setMode(leader.mode);
  view.camera.jumpTo(leader.pose);
  // Its window may allow less.
  linked.set(view, placeOf(view));
  view.requestFrame();
}

/** The viewers that one is linked with. */
export function peersOf(view) {
  return linked.has(view) ? [...linked.keys()].filter((other) => other !== view) : [];
}

/** There is one more or less to compare with. */
function redraw(view) {
  for (const one of [view, ...peersOf(view)]) one.requestFrame();
}

/** Link a viewer; it goes where the others are. */
export function link(view) {
  const [other = view] = linked.keys();
  follow(view, other);
  redraw(view);
}

/** Returns whether it was linked. */
export function unlink(view) {
  redraw(view);
  return linked.delete(view);
}

/** To be called after each drawing of a viewer. */
export function lead(view) {
  const place = placeOf(view);
  if ((linked.get(view) ?? place) === place) return;
  linked.set(view, place);
  for (const other of peersOf(view)) follow(other, view);
}

/** A button and a key that link a viewer with others. */
export function addLinkTool(view) {
  const button = view.overlay.addTool("link", "k", () => {
    const ended = unlink(view);
    if (!ended) link(view);
    button.setAttribute("aria-pressed", !ended);
    view.overlay.say(ended ? text("unlinked") : text("linked", { count: linked.size }));
  }, { "aria-pressed": false });
  view.peers = () => peersOf(view);
  view.drawn.push(() => lead(view));
}

/**
 * Brush strokes on the sphere as a workflow keeps them, the format of panodiff_core.geometry.strokes:
 *
 *   {"version": 1, "strokes": [{"mode": "paint", "radius_deg": 4, "softness": 0.3, "points": [[12.5, -3], …]}]}
 */

import { text } from "../texts/text.mjs";

const VERSION = 1;

const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);

function isStroke({ mode, radius_deg: radius, points }) {
  return ["paint", "erase"].includes(mode) && Number.isFinite(radius) && radius > 0 && points.length > 0 &&
    points.every(isPoint);
}

/** The strokes that a text keeps. Throws an Error where it is none; what is wrong in detail, a run says. */
export function parseStrokes(kept) {
  if (!kept?.trim()) return [];
  try {
    const { version, strokes } = JSON.parse(kept);
    if (version === VERSION && strokes.every(isStroke)) return strokes;
  } catch {
    // Said below, as for all other texts that are no strokes.
  }
  throw new Error(text("badStrokes"));
}

export function formatStrokes(strokes) {
  return strokes.length > 0 ? JSON.stringify({ version: VERSION, strokes }) : "";
}

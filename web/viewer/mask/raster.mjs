/**
 * Strokes on the sphere as an equirectangular mask of bytes, by the rule of panodiff_core.geometry.stroke_mask:
 * at the distance d from its line a stroke has the strength (r + p/2 − d) / (p + s·r), kept in 0 … 1, with the
 * radius r, the softness s and the height of a pixel p. Painting takes the larger value, erasing the smaller of
 * the mask and 1 − strength, so that a stroke may be drawn piece by piece while it grows.
 */

import {
  cross, directionToLonLat, dot, lonLatToDirection, lonLatToPixel, mix, normalise, pixelToLonLat, radians,
} from "../geometry/projection.mjs";

const NO_LENGTH = 1e-9;

/** What the distance to the shortest way from a to b needs; a piece without length has nothing beside it. */
function arcOf(a, b) {
  const axis = cross(a, b);
  const length = Math.hypot(...axis);
  const normal = length > NO_LENGTH ? normalise(axis) : [0, 0, 0];
  const half = Math.atan2(length, dot(a, b)) / 2;
  return { a, b, half, normal, after: cross(normal, a), before: cross(b, normal) };
}

function cosineOfDistance(arc, d) {
  if (dot(arc.after, d) > 0 && dot(arc.before, d) > 0) {
    return Math.sqrt(Math.max(0, 1 - dot(arc.normal, d) ** 2));
  }
  return Math.max(dot(arc.a, d), dot(arc.b, d));
}

export class MaskRaster {
  /** @param {number} height in pixels; the width is twice that */
  constructor(height) {
    this.height = height;
    this.width = 2 * height;
    this.data = new Uint8Array(this.width * height);
    this.columns = Array.from({ length: this.width }, (_, column) => {
      const [lon] = pixelToLonLat(column, 0, this.width, height);
      return [Math.sin(lon), Math.cos(lon)];
    });
  }

  /** Draw a stroke from its piece `first` on. Returns the rows [top, bottom) that may have changed. */
  draw(stroke, first = 0) {
    const points = stroke.points.map((point) => lonLatToDirection(...point.map(radians)));
    let [top, bottom] = [this.height, 0];
    const last = Math.max(points.length - 2, 0);
    for (let piece = first; piece <= last; piece += 1) {
      const rows = this.drawArc(stroke, arcOf(points[piece], points[piece + 1] ?? points[piece]));
      [top, bottom] = [Math.min(top, rows[0]), Math.max(bottom, rows[1])];
    }
    return [top, bottom];
  }

  drawArc({ mode, radius_deg: radiusDeg, softness = 0 }, arc) {
    const pixel = Math.PI / this.height;
    const radius = radians(radiusDeg);
    const brush = { outer: radius + pixel / 2, fade: pixel + softness * radius, erases: mode === "erase" };
    const [lon, lat] = directionToLonLat(mix(arc.a, arc.b, 0.5));
    const reach = arc.half + brush.outer;
    const top = Math.max(0, Math.floor((0.5 - (lat + reach) / Math.PI) * this.height));
    const bottom = Math.min(this.height, Math.ceil((0.5 - (lat - reach) / Math.PI) * this.height));
    const span = this.columnsNear(lon, lat, reach);
    for (let row = top; row < bottom; row += 1) this.drawRow(row, span, arc, brush);
    return [top, bottom];
  }

  /** [first, count] of the columns that a circle around a point meets; the first may lie before column 0. */
  columnsNear(lon, lat, reach) {
    if (Math.abs(lat) + reach >= Math.PI / 2) return [0, this.width];
    const half = Math.asin(Math.sin(reach) / Math.cos(lat));
    const [left, right] = [lon - half, lon + half].map((edge) => lonLatToPixel(edge, 0, this.width, this.height)[0]);
    return [Math.floor(left), Math.min(this.width, Math.ceil(right) - Math.floor(left) + 1)];
  }

  drawRow(row, [first, count], arc, { outer, fade, erases }) {
    const [, lat] = pixelToLonLat(0, row, this.width, this.height);
    const [across, up] = [Math.cos(lat), Math.sin(lat)];
    const farthest = Math.cos(Math.min(outer, Math.PI));
    for (let step = 0; step < count; step += 1) {
      const column = (first + step + this.width) % this.width;
      const [sin, cos] = this.columns[column];
      const cosine = cosineOfDistance(arc, [across * sin, up, across * cos]);
      if (cosine <= farthest) continue;
      const strength = Math.min((outer - Math.acos(Math.min(cosine, 1))) / fade, 1);
      const [index, value] = [row * this.width + column, Math.round(255 * strength)];
      this.data[index] = erases ? Math.min(this.data[index], 255 - value) : Math.max(this.data[index], value);
    }
  }
}

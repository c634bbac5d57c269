/**
 * The geometry of the viewer, in plain numbers: the same formulas as the shader and the Python core.
 *
 * World axes: +X right, +Y up, +Z forward. Yaw turns right, pitch up, roll clockwise. Degrees in interfaces.
 * Pictures are equirectangular with pixel centres at half-integers: the middle of the picture is forward,
 * the column after the last is the first.
 */

const RADIANS_PER_DEGREE = Math.PI / 180;

export function radians(degrees) {
  return degrees * RADIANS_PER_DEGREE;
}

export function degrees(angle) {
  return angle / RADIANS_PER_DEGREE;
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** Of two points. */
export function distance(one, other) {
  return Math.hypot(...one.map((value, axis) => value - other[axis]));
}

/** The point a share (0 … 1) of the way between two. */
export function mix(one, other, share) {
  return one.map((value, axis) => value + (other[axis] - value) * share);
}

/** The same direction as a yaw in −180 (excluded) … 180 (included). */
export function wrapDegrees(angle) {
  return angle - 360 * Math.ceil((angle - 180) / 360);
}

/**
 * Camera-to-world rotation as three rows of three numbers: yaw · pitch · roll.
 * Its columns are the camera's right, up and forward directions in the world.
 */
export function cameraRotation(yawDeg, pitchDeg, rollDeg) {
  const angles = [yawDeg, pitchDeg, rollDeg].map(radians);
  const [[cy, cp, cr], [sy, sp, sr]] = [angles.map(Math.cos), angles.map(Math.sin)];
  return [
    [cy * cr + sy * sp * sr, cy * sr - sy * sp * cr, sy * cp],
    [-cp * sr, cp * cr, sp],
    [-sy * cr + cy * sp * sr, -sy * sr - cy * sp * cr, cy * cp],
  ];
}

export function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

export function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

export function rotate(rows, vector) {
  return rows.map((row) => dot(row, vector));
}

/** The inverse of `rotate`. */
export function rotateBack(rows, vector) {
  return [0, 1, 2].map((axis) => dot(rows.map((row) => row[axis]), vector));
}

export function normalise(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** Longitude (−π … π, right of forward) and latitude (−π/2 … π/2) of a direction. */
export function directionToLonLat([x, y, z]) {
  return [Math.atan2(x, z), Math.atan2(y, Math.hypot(x, z))];
}

export function lonLatToDirection(lon, lat) {
  return [Math.cos(lat) * Math.sin(lon), Math.sin(lat), Math.cos(lat) * Math.cos(lon)];
}

/** Picture position (column, row) of a direction; whole numbers are pixel centres. */
export function lonLatToPixel(lon, lat, width, height) {
  return [(lon / (2 * Math.PI) + 0.5) * width - 0.5, (0.5 - lat / Math.PI) * height - 0.5];
}

export function pixelToLonLat(column, row, width, height) {
  return [((column + 0.5) / width - 0.5) * 2 * Math.PI, (0.5 - (row + 0.5) / height) * Math.PI];
}

/**
 * How a `width` × `height` picture lies on the sphere without being stretched.
 * A picture of 2:1 covers it; a wider one leaves the poles open, a narrower one leaves the back open.
 * A `crop` (picture/gpano.mjs) says instead which part of the sphere it is.
 * `sphere` is the size, in picture pixels, that the whole sphere would have; `offset` where the picture begins.
 */
export function coverage(width, height, crop) {
  let sphere = width >= 2 * height ? [width, width / 2] : [2 * height, height];
  let offset = [(sphere[0] - width) / 2, (sphere[1] - height) / 2];
  if (crop) {
    const scaled = (across, down) => [(across * width) / crop.width, (down * height) / crop.height];
    [sphere, offset] = [scaled(crop.fullWidth, crop.fullHeight), scaled(crop.left, crop.top)];
  }
  return { full: width === sphere[0] && height === sphere[1], wraps: width === sphere[0], sphere, offset };
}

const COMPASS = ["F", "FR", "R", "BR", "B", "BL", "L", "FL"];

/** Which way a yaw looks, seen from the picture's centre: F(orward), R(ight), B(ack), L(eft) and between. */
export function compassPoint(yawDeg) {
  return COMPASS.at(Math.round(wrapDegrees(yawDeg) / 45));
}

/** An angle as people read it: one decimal, a true minus sign and never "−0.0". */
export function formatDegrees(angle) {
  return `${(Math.round(angle * 10) / 10).toFixed(1).replace("-", "−")}°`;
}

/** Which part of the sphere a picture file says it is, in its GPano fields. */

const NEAR = 2 ** 18; // the fields stand at the beginning of PNG and JPEG files, at the end of WebP
const FIELDS = [
  "CroppedAreaLeft", "CroppedAreaTop", "CroppedAreaImageWidth", "CroppedAreaImageHeight", "FullPanoWidth", "FullPanoHeight",
];

/**
 * The crop {left, top, width, height, fullWidth, fullHeight} in a file's text: null where it names none or all of the
 * sphere, false where the numbers contradict each other.
 */
export function cropIn(text) {
  const number = (name) => Number(text.match(new RegExp(`GPano:${name}Pixels[\\s="'>]+(\\d+)`))?.[1]);
  const numbers = FIELDS.map(number);
  const [left, top, width, height, fullWidth, fullHeight] = numbers;
  if (numbers.some(Number.isNaN) || (width === fullWidth && height === fullHeight)) return null;
  const fits = left < fullWidth && width <= fullWidth && top + height <= fullHeight && width * height > 0;
  return fits && Math.abs(fullWidth - 2 * fullHeight) < 3 && { left, top, width, height, fullWidth, fullHeight };
}

export async function readCrop(blob) {
  return cropIn(await new Blob([blob.slice(0, NEAR), blob.slice(-NEAR)]).text());
}

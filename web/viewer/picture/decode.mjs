/** From a picture's address or bytes to pixels, decoded off the main thread. */

import { text } from "../texts/text.mjs";

/** Colours as they are in the file, so that pixels stay comparable: not converted, not multiplied by alpha. */
const EXACT = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

export async function decoded(blob) {
  try {
    return await createImageBitmap(blob, EXACT);
  } catch {
    throw new Error(text("unreadable"));
  }
}

export function resized(bitmap, resizeWidth, resizeHeight, resizeQuality) {
  return createImageBitmap(bitmap, { ...EXACT, resizeWidth, resizeHeight, resizeQuality });
}

export async function fetched(address, signal) {
  const response = await fetch(address, { signal, credentials: "same-origin" });
  // Temporary files go when the server restarts.
  if (response.status === 404) throw Object.assign(new Error(text("gone")), { gone: true });
  if (!response.ok) throw new Error(text("serverSaid", { status: response.status }));
  return response.blob();
}

/** The viewer's texts in ComfyUI's language. */

import { languageOf, useTexts } from "../texts/text.mjs";

let loading = null;

/** Fetch the table for `locale`, once per page: a page keeps its language. */
export function loadTexts(locale) {
  const language = languageOf(locale);
  loading ??= import(`../texts/${language}.mjs`).then((tables) => useTexts(tables[language.toUpperCase()]));
  return loading;
}

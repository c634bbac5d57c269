/** What the viewer says. The words lie in one table per language beside this; a page loads the one it needs. */

export const LANGUAGES = ["en", "de"];

let texts = {};

/** The language of LANGUAGES for a locale such as "de-AT": English where there is no better. */
export function languageOf(locale) {
  return LANGUAGES.find((language) => new RegExp(`^${language}\\b`, "i").test(locale)) ?? "en";
}

/** Take over a table before the first text is asked for. */
export function useTexts(table) {
  texts = table;
}

/** The text `key`, its {names} filled in from `values`. */
export function text(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { MODE_NAMES } from "../../web/viewer/geometry/modes.mjs";
import { compassPoint } from "../../web/viewer/geometry/projection.mjs";
import { LENGTHS } from "../../web/viewer/picture/capture.mjs";
import { EYES, STEREO } from "../../web/viewer/picture/stereo.mjs";
import { DE } from "../../web/viewer/texts/de.mjs";
import { EN } from "../../web/viewer/texts/en.mjs";
import { LANGUAGES, languageOf, text, useTexts } from "../../web/viewer/texts/text.mjs";

const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const TABLES = { en: EN, de: DE };
// The sources of all modules that may say something, without comments; shaders are another language.
const SOURCES = new Map(
  readdirSync(WEB, { recursive: true })
    .filter((name) => name.endsWith(".mjs") && !/texts.(en|de)\.mjs$|gl.(shader|heat)/.test(name))
    .map((name) => [name, readFileSync(WEB + name, "utf8").replace(/\/\*.*?\*\/|(?<=^|\s)\/\/[^\n]*/gs, "")]),
);
const CODE = [...SOURCES.values()].join("\n");

// What is no text for people: names of keys and elements, and errors that only a mistake in our own code can raise.
const NO_TEXT = [/^Escape$/, /^input, select(, button)?$/, /^(CroppedArea|FullPano)/, /^Shift\+Z$/, /^There is no (view mode|display setting) /];

/** The literals of a source that look like words for people. */
function words(source) {
  const literals = source.replace(/^import .*$/gm, "").match(/"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g) ?? [];
  return literals
    .map((literal) => literal.slice(1, -1))
    .filter((literal) => {
      const plain = literal.replace(/\$\{[^{}]*\}/g, "0").replace(/\b[a-z0-9]+-[\w-]*/g, "").replace(/\([^)]*\)/g, "");
      return /^\s*[A-Z][a-z]/.test(plain) || /[a-z]{2,}[,;:]? +[a-z]{2,}/i.test(plain);
    })
    .filter((literal) => !NO_TEXT.some((pattern) => pattern.test(literal)));
}

test("all languages have the same keys in the same order, all filled, with the same values", () => {
  assert.deepEqual(Object.keys(TABLES), [...LANGUAGES]);
  const names = (line) => (line.match(/\{\w+\}/g) ?? []).sort();
  for (const [language, table] of Object.entries(TABLES)) {
    assert.deepEqual(Object.keys(table), Object.keys(EN), language);
    for (const [key, line] of Object.entries(table)) {
      assert.ok(line.trim(), `${language}: ${key}`);
      assert.deepEqual(names(line), names(EN[key]), `${language}: ${key}`);
    }
  }
});

test("every key that a module names exists, and none is left over", () => {
  const made = /\b(?:(?:textButton|iconButton|addTool|sliderRow)\(|(?:group|addBar)\(\s*"[^"]+", )"(\w+)"/g;
  const elements = [...CODE.matchAll(made)].map(([, key]) => `"${key}"`);
  assert.ok(elements.length > 20);
  const named = [...CODE.matchAll(/\btext\(([^;]*?)\)/g)].flatMap(([, inside]) => inside.match(/"\w+"/g) ?? []).concat(elements);
  const computed = [
    ...MODE_NAMES, ...LENGTHS.filter((name) => !Number(name)).map((name) => `${name}Length`),
    ...[...STEREO, ...EYES].map((name) => `${name}Eye`),
    ...[0, 45, 90, 135, 180, 225, 270, 315].map(compassPoint),
  ];
  const asked = [...named.map((key) => key.slice(1, -1)), ...computed];
  assert.ok(asked.length > 60);
  assert.deepEqual(asked.filter((key) => !Object.hasOwn(EN, key)), []);
  const unused = Object.keys(EN).filter((key) => !asked.includes(key) && !new RegExp(`\\b${key}\\b`).test(CODE));
  assert.deepEqual(unused, []);
});

test("no module says anything that is not in the tables", () => {
  assert.ok(SOURCES.size > 25);
  const found = [...SOURCES].flatMap(([name, source]) => words(source).map((literal) => `${name}: ${literal}`));
  assert.deepEqual(found, []);
});

test("the search for words finds labels, sentences and templates, and leaves names alone", () => {
  const source = 'b("Undo"); say("nothing to do"); say(`is ${n} wide here`); el("div", "pd360-a pd360-b", "rgb(0 0 0 / 6%)");';
  assert.deepEqual(words(source), ["Undo", "nothing to do", "is ${n} wide here"]);
});

test("texts are filled in, and values are never read as patterns", () => {
  useTexts(EN);
  assert.equal(text("saved", { name: "$& {x} <b>.png" }), "Saved $& {x} <b>.png.");
  useTexts(DE);
  assert.equal(text("captured", { size: "8 × 8" }), "Aufgenommen mit 8 × 8. Der nächste Lauf rechnet es aus.");
});

test("a locale finds its language, others are told in English", () => {
  const asked = ["de", "de-AT", "DE", "en-GB", "den", "zh-TW", "", undefined, null];
  assert.deepEqual(asked.map(languageOf), ["de", "de", "de", "en", "en", "en", "en", "en", "en"]);
});

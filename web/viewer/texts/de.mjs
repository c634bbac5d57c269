/** What the viewer says in German. All tables have the same keys and the same {names}. */

export const DE = Object.freeze({
  // Modes
  perspective: "Perspektive",
  flat: "Flach",
  seam: "Naht",
  zenith: "Zenit",
  nadir: "Nadir",
  planet: "Kleiner Planet / Tunnel",
  fisheye: "Fischauge 180°",
  pannini: "Pannini",
  cubemap_cross: "Würfelkreuz",
  cubemap_3x2: "Würfel 3 × 2",

  // The viewer and its toolbar
  viewer: "360°-Panorama-Betrachter",
  help: "Ziehen oder die Pfeiltasten drehen den Blick. Ein Doppelklick holt eine Stelle in die Mitte. " +
    "Plus und Minus zoomen, Pos1 oder R setzt die Ansicht zurück, F füllt den Bildschirm. " +
    "Die Ziffern wählen die Ansicht: 1 Perspektive, 2 flach, 3 Naht, 4 Zenit, 5 Nadir, 6 kleiner Planet, " +
    "7 Fischauge, 8 Pannini, 9 Würfelkreuz, 0 Würfel 3 mal 2.",
  toolbar: "Ansicht",
  fullscreen: "Vollbild (F)",
  previous: "Voriges Bild (,)",
  next: "Nächstes Bild (.)",
  zoomIn: "Vergrößern (+)",
  zoomOut: "Verkleinern (−)",
  reset: "Ansicht zurücksetzen (R)",

  // The read-out: which way it looks from the picture's centre, forward (V) or right of it …
  F: "V", FR: "VR", R: "R", BR: "HR", B: "H", BL: "HL", L: "L", FL: "VL",
  seenFov: "{facing} · Drehung {yaw} · Neigung {pitch} · Bildwinkel {fov}°",
  seenZoom: "{facing} · Drehung {yaw} · Neigung {pitch} · Zoom {percent} %",
  spokenFov: "Drehung {yaw}, Neigung {pitch}, Bildwinkel {fov} Grad",
  spokenZoom: "Drehung {yaw}, Neigung {pitch}, Zoom {percent} Prozent",

  // Views and display
  options: "Ansichten und Darstellung",
  modes: "Ansicht",
  display: "Darstellung",
  exposureEv: "Belichtung",
  gamma: "Gamma",
  checker: "Schachbrett hinter Durchsichtigem",
  seamLine: "Linie an der Naht",
  contrast: "Kontrast × 8",
  heat: "Wärmebild der Naht",
  neutral: "Darstellung zurücksetzen",
  pictures: "Bilder",
  length: "Längere Seite der Bilder",
  windowLength: "wie das Fenster",
  fullLength: "so fein wie das Panorama",

  // Pictures
  run: "Den Workflow ausführen, dann hier umsehen.",
  runForText: "Wird gefüllt, wenn der Workflow läuft.",
  runAgain: "{problem} Den Workflow noch einmal ausführen.",
  noWebgl: "Dieser Browser bietet kein WebGL2, das die 360°-Ansicht braucht.",
  shaderFails: "Der Shader des Betrachters lässt sich hier nicht bauen: {log}",
  contextLost: "Die Grafikkarte wurde entzogen; warte, bis sie zurückkommt …",
  unreadable: "Die Datei ist nicht als Bild lesbar (PNG, JPEG oder WebP).",
  gone: "Das Bild liegt nicht mehr auf dem Server.",
  serverSaid: "Der Server antwortete auf die Frage nach dem Bild mit {status}.",
  openAround: "{size} ist nicht 2:1. Unverzerrt gezeigt; die Kugel bleibt oben und unten offen.",
  openBehind: "{size} ist nicht 2:1. Unverzerrt gezeigt; die Kugel bleibt hinten offen.",
  scaled: "Gezeigt mit {shown}, nicht mit {size}.",
  blurred: "Teile des Bildes bleiben unscharf. {problem}",

  // Batches and videos
  player: "Abspielen",
  play: "Abspielen (Leertaste)",
  pause: "Pause (Leertaste)",
  position: "Stelle",
  fps: "Bilder pro Sekunde",
  loop: "Wiederholen (L)",
  badVideo: "Das Video ist nicht mehr da, oder dieser Browser kann sein Format nicht abspielen.",
  largeVideo: "Ein Video von {size} ist mehr, als diese Grafikkarte aufnimmt.",

  // Stereo pairs, cubes and parts of the sphere
  stereo: "Stereobild",
  autoEye: "nach den Proportionen",
  oneEye: "ein Panorama",
  belowEye: "rechtes Auge unten",
  besideEye: "rechtes Auge daneben",
  eye: "Auge",
  leftEye: "links",
  rightEye: "rechts",
  bothEye: "beide, rot-cyan",
  stereoPair: "Als Stereopaar gezeigt: {layout}. Das Menü der Ansichten hat andere Möglichkeiten.",
  largeCube: "Würfelseiten von {size} Pixeln sind mehr, als diese Grafikkarte aufnimmt.",
  badCrop: "Die GPano-Felder der Datei widersprechen sich und werden nicht benutzt.",
  part: "Ein Teil eines Panoramas von {size}; der Rest bleibt dunkel.",

  // Saving and capturing
  save: "Diese Ansicht als Bild speichern",
  nothingToSave: "Noch gibt es kein Bild zu speichern.",
  saved: "{name} gespeichert.",
  wentAway: "Das Bild verschwand, bevor es gespeichert war.",
  tooLarge: "Dieser Browser kann kein Bild von {size} herstellen.",
  capture: "Diese Ansicht für den nächsten Lauf aufnehmen",
  runFirst: "Erst den Workflow ausführen, dann aufnehmen, was zu sehen ist.",
  flatLens: "Eine Kamera hat ein flaches Objektiv: mit 1 zur Perspektive wechseln und dort aufnehmen.",
  captured: "Aufgenommen mit {size}. Der nächste Lauf rechnet es aus.",
  wired: "{names}: Eine Leitung gibt einen anderen Wert vor. Bitte lösen.",
  noInput: "Dieser Knoten hat keinen Eingang „{name}“; ComfyUI nach einem Update neu starten.",

  // The brush
  paint: "Eine Maske malen",
  brush: "Pinsel",
  eraser: "Radierer",
  radiusDeg: "Radius",
  softness: "Weichheit",
  undo: "Zurück",
  redo: "Wieder vor",
  clear: "Leeren",
  brushOn: "Pinsel an. P malt in der Mitte, E radiert, eckige Klammern ändern den Radius, Z nimmt zurück.",
  brushOff: "Pinsel aus",
  brushIs: "{tool}, Radius {radius} Grad, Weichheit {softness} Prozent",
  nothingToUndo: "Es gibt nichts zurückzunehmen.",
  nothingToRedo: "Es gibt nichts zu wiederholen.",
  oneStroke: "1 Strich",
  strokes: "{count} Striche",
  badStrokes: "mask_strokes ist nicht lesbar, darum ist keine Maske zu sehen. Malen beginnt eine neue.",

  // Compare, links and histogram
  compare: "Vergleichen",
  first: "Nur A",
  wipe: "Wischen A | B",
  blink: "Blinken",
  difference: "Differenz",
  scale: "Verstärkung",
  divider: "Trennlinie",
  dividerIs: "A {percent} Prozent",
  link: "Kameras verbinden",
  linked: "Verbundene Betrachter auf dieser Seite: {count}.",
  unlinked: "Nicht mehr verbunden.",
  histogram: "Histogramm",
  spread: "Mittel {mean}, am Anschlag {dark} dunkel, {bright} hell.",

  // Measures
  measures: "Messwerte",
  pointer: "Zeiger",
  middle: "Mitte",
  outside: "außerhalb des Bildes",
  seamFigures: "Naht",
  ratios: "Verhältnis bei 1, 2, 8, 16 px",
  rank: "Stufe größer als bei",
  rankIs: "{percent} % der Spalten",
  poles: "Varianz der Pole",
  polesAre: "{top} oben · {bottom} unten",
  rows: "Verhältnis je Zeile",
  rowsAre: "höchstens {ratio}, bei Breite {lat}",
  runForFigures: "View Panorama ausführen, um Zahlen zu sehen.",

  // Gyroscope and VR
  gyroscope: "Mit dem Gerät drehen",
  gyroscopeDenied: "Der Browser erlaubt hier keine Bewegungssensoren.",
  vr: "VR starten",
  vrFails: "VR ließ sich nicht starten: {problem}",

  // The offline page
  download: "Bild speichern",
  flatInstead: "{problem} Hier ist statt dessen das flache Bild.",
});

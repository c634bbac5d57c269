/** What the viewer says in English. All tables have the same keys and the same {names}. */

export const EN = Object.freeze({
  // Modes
  perspective: "Perspective",
  flat: "Flat",
  seam: "Seam",
  zenith: "Zenith",
  nadir: "Nadir",
  planet: "Little planet / tunnel",
  fisheye: "Fisheye 180°",
  pannini: "Pannini",
  cubemap_cross: "Cubemap cross",
  cubemap_3x2: "Cubemap 3 × 2",

  // The viewer and its toolbar
  viewer: "360° panorama viewer",
  help: "Drag, or use the arrow keys, to look around. A double click brings a place to the middle. " +
    "Plus and minus zoom, Home or R resets the view, F is full screen. " +
    "The digits choose the view: 1 perspective, 2 flat, 3 seam, 4 zenith, 5 nadir, 6 little planet, 7 fisheye, " +
    "8 Pannini, 9 cubemap cross, 0 cubemap 3 by 2.",
  toolbar: "View",
  fullscreen: "Full screen (F)",
  previous: "Previous picture (,)",
  next: "Next picture (.)",
  zoomIn: "Zoom in (+)",
  zoomOut: "Zoom out (−)",
  reset: "Reset the view (R)",

  // The read-out: which way it looks from the picture's centre, forward (F) or right of it …
  F: "F", FR: "FR", R: "R", BR: "BR", B: "B", BL: "BL", L: "L", FL: "FL",
  seenFov: "{facing} · yaw {yaw} · pitch {pitch} · fov {fov}°",
  seenZoom: "{facing} · yaw {yaw} · pitch {pitch} · zoom {percent} %",
  spokenFov: "Yaw {yaw}, pitch {pitch}, field of view {fov} degrees",
  spokenZoom: "Yaw {yaw}, pitch {pitch}, zoom {percent} percent",

  // Views and display
  options: "View modes and display",
  modes: "View mode",
  display: "Display",
  exposureEv: "Exposure",
  gamma: "Gamma",
  checker: "Chequered ground behind transparency",
  seamLine: "Line at the seam",
  contrast: "Contrast × 8",
  heat: "Seam heat map",
  neutral: "Reset display",
  pictures: "Pictures",
  length: "Longer side of pictures",
  windowLength: "as the window",
  fullLength: "as fine as the panorama",

  // Pictures
  run: "Run the workflow, then look around here.",
  runForText: "Run the workflow to fill this in.",
  runAgain: "{problem} Run the workflow again.",
  noWebgl: "This browser offers no WebGL2, which the 360° view needs.",
  shaderFails: "The viewer's shader does not build here: {log}",
  contextLost: "The graphics card was taken away; waiting to get it back…",
  unreadable: "The file cannot be read as a picture (PNG, JPEG or WebP).",
  gone: "The picture is not on the server any more.",
  serverSaid: "The server answered {status} when asked for the picture.",
  openAround: "{size} is not 2:1. Shown unstretched; the sphere stays open above and below.",
  openBehind: "{size} is not 2:1. Shown unstretched; the sphere stays open at the back.",
  scaled: "Shown at {shown}, not at {size}.",
  blurred: "Parts of the picture stay blurred. {problem}",

  // Batches and videos
  player: "Player",
  play: "Play (Space)",
  pause: "Pause (Space)",
  position: "Position",
  fps: "Pictures per second",
  loop: "Loop (L)",
  badVideo: "The video is gone, or in a format that this browser cannot play.",
  largeVideo: "A video of {size} is more than this graphics card takes.",

  // Stereo pairs, cubes and parts of the sphere
  stereo: "Stereo picture",
  autoEye: "by proportions",
  oneEye: "one panorama",
  belowEye: "right eye below",
  besideEye: "right eye beside",
  eye: "Eye",
  leftEye: "left",
  rightEye: "right",
  bothEye: "both, red-cyan",
  stereoPair: "Shown as a stereo pair: {layout}. The panel of views has other choices.",
  largeCube: "Cube faces of {size} pixels are more than this graphics card takes.",
  badCrop: "The file's GPano fields contradict each other; not used.",
  part: "A part of a panorama of {size}; the rest stays dark.",

  // Saving and capturing
  save: "Save this view as a picture",
  nothingToSave: "There is no picture to save yet.",
  saved: "Saved {name}.",
  wentAway: "The picture went away before it could be saved.",
  tooLarge: "This browser cannot make a picture of {size}.",
  capture: "Capture this view for the next run",
  runFirst: "Run the workflow first, then capture what you see.",
  flatLens: "A camera has a flat lens: press 1 for the perspective view and capture there.",
  captured: "Captured at {size}. Run to render it.",
  wired: "{names}: a wire gives another value. Take it off.",
  noInput: "This node has no input “{name}”; restart ComfyUI after an update.",

  // The brush
  paint: "Paint a mask",
  brush: "Brush",
  eraser: "Eraser",
  radiusDeg: "Radius",
  softness: "Softness",
  undo: "Undo",
  redo: "Redo",
  clear: "Clear",
  brushOn: "Brush on. P paints in the middle, E erases, brackets change the radius, Z takes back.",
  brushOff: "Brush off",
  brushIs: "{tool}, radius {radius} degrees, softness {softness} percent",
  nothingToUndo: "There is nothing to take back.",
  nothingToRedo: "There is nothing to repeat.",
  oneStroke: "1 stroke",
  strokes: "{count} strokes",
  badStrokes: "mask_strokes cannot be read, so no mask is shown. Painting starts a new one.",

  // Compare, links and histogram
  compare: "Compare",
  first: "A alone",
  wipe: "Wipe A | B",
  blink: "Blink",
  difference: "Difference",
  scale: "Scale",
  divider: "Divider",
  dividerIs: "A {percent} percent",
  link: "Link cameras",
  linked: "Linked viewers on this page: {count}.",
  unlinked: "Not linked any more.",
  histogram: "Histogram",
  spread: "mean {mean}, clipped {dark} dark, {bright} bright.",

  // Measures
  measures: "Measures",
  pointer: "Pointer",
  middle: "Middle",
  outside: "outside of the picture",
  seamFigures: "Seam",
  ratios: "Ratio at 1, 2, 8, 16 px",
  rank: "Step larger than",
  rankIs: "{percent} % of columns",
  poles: "Pole variance",
  polesAre: "{top} top · {bottom} bottom",
  rows: "Ratio by row",
  rowsAre: "largest {ratio} at lat {lat}",
  runForFigures: "Run View Panorama for figures.",

  // Gyroscope and VR
  gyroscope: "Turn with the device",
  gyroscopeDenied: "The browser does not allow motion sensors here.",
  vr: "Enter VR",
  vrFails: "VR could not start: {problem}",

  // The offline page
  download: "Save picture",
  flatInstead: "{problem} Here is the flat picture instead.",
});

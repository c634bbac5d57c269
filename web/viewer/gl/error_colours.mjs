/** The colours of errors, from none to large, in bytes: each is about as much lighter than the one before. */

export const ERROR_COLOURS = [
  [6, 8, 18], [62, 24, 104], [150, 36, 112], [221, 72, 72], [250, 148, 52], [252, 236, 164],
];

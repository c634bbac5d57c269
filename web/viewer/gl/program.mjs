/** A variant of the shader, compiled, and what its uniforms are in a drawing (see Renderer.shade). */

import { text } from "../texts/text.mjs";
import { averageStep, heatLevel } from "./heat.mjs";
import { VERTEX_SHADER, fragmentShader } from "./shader.mjs";

/** Others are called as what the lens or the picture has. Only those are asked for that a variant reads. */
const UNIFORMS = {
  u_window: ({ width, height }) => [width, height],
  u_picture: ({ picture, difference }) => (difference ? difference.drawings[0] : picture),
  u_exposure: ({ display }) => 2 ** display.exposureEv,
  u_gamma: ({ display }) => display.gamma,
  u_level: ({ picture, lens }) => heatLevel(picture, lens),
  u_average: ({ gl, picture, lens }) => {
    const level = heatLevel(picture, lens);
    return (picture.averages[level] ??= averageStep(gl, picture, level)); // measured once
  },
  u_mask: ({ mask }) => mask,
  u_other: ({ difference }) => difference.drawings[1],
  u_scale: ({ difference }) => difference.scale,
  u_tiles: ({ picture }) => picture.tiles.pool.handle,
  u_table: ({ picture }) => picture.tiles.handle,
  u_finest: ({ picture: { tiles } }) => tiles.levels[0],
  u_depth: ({ picture: { tiles } }) => [tiles.least, tiles.levels.length, tiles.rows],
};

/**
 * {program, use} of a variant (see shader.mjs); `use(drawing)` makes it ready for a drawing. The first use waits for the
 * driver, and throws an Error with its words where the variant does not build.
 */
export function buildProgram(gl, variant) {
  const program = gl.createProgram();
  const sources = { VERTEX_SHADER, FRAGMENT_SHADER: fragmentShader(variant) };
  const shaders = Object.entries(sources).map(([type, source]) => {
    const shader = gl.createShader(gl[type]);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    return shader;
  });
  gl.linkProgram(program);
  let uniforms;
  const use = (drawing) => {
    uniforms ??= finished(gl, program, shaders);
    gl.useProgram(program);
    for (const [name, set] of uniforms) set(valueOf(name, drawing));
  };
  return { program, use };
}

function valueOf(name, drawing) {
  const key = name.slice("u_".length);
  return UNIFORMS[name]?.(drawing) ?? drawing.lens[key] ?? drawing.picture[key];
}

function finished(gl, program, shaders) {
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = [gl.getProgramInfoLog(program), ...shaders.map((shader) => gl.getShaderInfoLog(shader))];
    throw new Error(text("shaderFails", { log: logs.join("\n") }));
  }
  for (const shader of shaders) gl.deleteShader(shader);
  return activeUniforms(gl, program);
}

/** [name, function that sets it] of what a program reads. Each texture, a handle of the renderer, has a unit of its own. */
function activeUniforms(gl, program) {
  return Array.from({ length: gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) }, (_, unit) => {
    const { name, type } = gl.getActiveUniform(program, unit);
    const at = gl.getUniformLocation(program, name);
    const texture = (handle) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(handle.target, handle.texture);
      gl.uniform1i(at, unit);
    };
    const setters = {
      [gl.FLOAT]: (value) => gl.uniform1f(at, value),
      [gl.FLOAT_VEC2]: (value) => gl.uniform2fv(at, value),
      [gl.FLOAT_VEC3]: (value) => gl.uniform3fv(at, value),
      [gl.INT_VEC3]: (value) => gl.uniform3iv(at, value),
      [gl.FLOAT_MAT3]: (rows) => gl.uniformMatrix3fv(at, true, rows.flat()),
    };
    return [name, setters[type] ?? texture];
  });
}

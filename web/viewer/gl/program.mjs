/** A variant of the shader, compiled. */

import { text } from "../texts/text.mjs";
import { UNIFORMS } from "./uniforms.mjs";
import { VERTEX_SHADER, fragmentShader } from "./shader.mjs";

/**
 * A function that takes a drawing (see Renderer.shade) and makes a variant (see shader.mjs) ready to draw it. Throws an
 * Error with the driver's words where the variant does not build.
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
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = [gl.getProgramInfoLog(program), ...shaders.map((shader) => gl.getShaderInfoLog(shader))];
    throw new Error(text("shaderFails", { log: logs.join("\n") }));
  }
  for (const shader of shaders) gl.deleteShader(shader);
  const uniforms = activeUniforms(gl, program);
  return (drawing) => {
    gl.useProgram(program);
    for (const [name, set] of uniforms) set(UNIFORMS[name](drawing));
  };
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
      [gl.BOOL]: (value) => gl.uniform1i(at, value),
      [gl.FLOAT]: (value) => gl.uniform1f(at, value),
      [gl.FLOAT_VEC2]: (value) => gl.uniform2fv(at, value),
      [gl.FLOAT_VEC3]: (value) => gl.uniform3fv(at, value),
      [gl.INT_VEC2]: (value) => gl.uniform2iv(at, value),
      [gl.FLOAT_MAT3]: (rows) => gl.uniformMatrix3fv(at, true, rows),
    };
    return [name, setters[type] ?? texture];
  });
}

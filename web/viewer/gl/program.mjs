/** A variant of the shader, compiled. */

import { text } from "../texts/text.mjs";
import { UNIFORMS } from "./uniforms.mjs";
import { VERTEX_SHADER, fragmentShader } from "./shader.mjs";

function compileShader(gl, type, source) {
  const shader = gl.createShader(type);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

/** {program, locations} of a variant (see shader.mjs). Throws an Error with the driver's words where it does not build. */
export function buildProgram(gl, variant) {
  const program = gl.createProgram();
  const shaders = [
    compileShader(gl, gl.VERTEX_SHADER, VERTEX_SHADER),
    compileShader(gl, gl.FRAGMENT_SHADER, fragmentShader(variant)),
  ];
  for (const shader of shaders) gl.attachShader(program, shader);
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = shaders.map((shader) => gl.getShaderInfoLog(shader)).join("\n");
    throw new Error(text("shaderFails", { log: `${gl.getProgramInfoLog(program)}\n${logs}` }));
  }
  for (const shader of shaders) gl.deleteShader(shader);
  const locations = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)]));
  return { program, locations };
}

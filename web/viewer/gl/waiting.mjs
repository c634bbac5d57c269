/** Waiting for the graphics side without keeping the page from anything else. */

// Often enough that nobody notices.
const POLL_MS = 4;

/** A promise that all that was asked of `gl` until now is done, or its context is lost. */
export async function whenDone(gl) {
  const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
  if (!sync) return;
  gl.flush();
  while (!gl.isContextLost() && gl.getSyncParameter(sync, gl.SYNC_STATUS) !== gl.SIGNALED) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  gl.deleteSync(sync);
}

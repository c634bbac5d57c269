/**
 * Large pictures in pieces. Of a pyramid of levels the preview is an ordinary texture; tiles of the finer levels
 * are loaded where they are seen. They lie in the layers of one array texture for all viewers, as many as its
 * budget allows, and those not seen for longest give way. A table tells the shader which tile to read where.
 */

import { TILE, tilesSeen } from "../geometry/tiles_seen.mjs";

// With the border.
const EXTENT = TILE + 2;
// Tiles that are on their way.
const AT_ONCE = 4;
// How often to find out what is seen.
const SETTLE_MS = 50;

const nextFrame = () => new Promise(requestAnimationFrame);

/** The layers, and how tiles come there. */
export class TilePool {
  constructor(renderer) {
    Object.assign(this, { renderer, stores: new Set(), layers: [], loading: 0, turn: Promise.resolve() });
    // 169 and 253 MB.
    this.most = renderer.software ? 40 : 60;
  }

  join(store, tiles) {
    const { renderer, layers } = this;
    const { gl, anisotropy } = renderer;
    const count = Math.min(tiles, this.most);
    this.stores.add(store);
    if (count <= layers.length) return;
    for (const layer of layers) layer?.store.forget(layer.key);
    renderer.deleteTexture(this.handle);
    this.layers = Array(count).fill(null);
    this.handle = renderer.newTexture(gl.TEXTURE_2D_ARRAY, { anisotropy, bytes: 4 * EXTENT * EXTENT * count });
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA8, EXTENT, EXTENT, count);
  }

  leave(store) {
    this.stores.delete(store);
    this.layers = this.layers.map((layer) => (layer?.store === store ? null : layer));
    if (this.stores.size > 0) return;
    this.renderer.deleteTexture(this.handle);
    this.layers = [];
  }

  /** Load what is missing, a few at once. */
  pump() {
    for (const store of this.stores) {
      for (const key of store.wanted) {
        if (this.loading < AT_ONCE && !store.placed.has(key) && !store.pending.has(key)) this.load(store, key);
      }
    }
  }

  async load(store, key) {
    const stop = new AbortController();
    store.pending.set(key, stop);
    this.loading += 1;
    try {
      const image = await store.pyramid.load(...key.split("_"), stop.signal);
      // One upload per frame, so that none takes long.
      await (this.turn = this.turn.then(nextFrame));
      if (store.wanted.has(key)) store.place(key, this.put(store, key, image));
      image.close?.();
    } catch (problem) {
      if (!stop.signal.aborted) store.place(key, -1, problem);
    }
    store.pending.delete(key);
    this.loading -= 1;
    this.pump();
  }

  put(store, key, image) {
    const { gl } = this.renderer;
    const seen = this.layers.map((layer) => layer?.seen ?? 0);
    const index = seen.indexOf(Math.min(...seen));
    this.layers[index]?.store.forget(this.layers[index].key);
    this.layers[index] = { store, key, seen: store.looked };
    const size = [image.width, image.height, 1];
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.handle.texture);
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, index, ...size, gl.RGBA, gl.UNSIGNED_BYTE, image);
    return index;
  }

  /** Load all that was just drawn through a lens, of all pictures. */
  complete(lens) {
    return Promise.all([...this.stores].map((store) => store.view?.[0] === lens && store.complete(...store.view)));
  }
}

/** The tiles of one picture. `changed(busy, problem)` is called when there is something new to draw. */
export class TileStore {
  /**
   * @param {{tiles, kept}} picture with a pyramid (see picture/pyramid.mjs), which is closed with this unless `kept`
   * @param {{sphere, offset}} lies size that the whole sphere would have; where in it the picture begins
   */
  constructor(renderer, { tiles: pyramid, kept }, { sphere, offset }) {
    const { pool } = renderer;
    const { levels } = pyramid;
    pyramid.used = true;
    Object.assign(this, { renderer, pool, pyramid, kept, levels, sphere, offset });
    // By "level_column_row".
    Object.assign(this, { wanted: new Set(), placed: new Map(), pending: new Map() });
    const counts = levels.map((size) => size.map((length) => Math.ceil(length / TILE)));
    [this.columns, this.rows] = counts[0];
    // For each level, and each tile of the finest, of the tile to read there: size of its level; layer + 1, with its left
    // edge; upper edge. 0 where none is there.
    this.table = new Float32Array(4 * this.columns * this.rows * levels.length);
    const { gl } = renderer;
    this.handle = renderer.newTexture(gl.TEXTURE_2D, { filter: gl.NEAREST, bytes: this.table.byteLength });
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, this.columns, this.rows * (levels.length + 1));
    pool.join(this, counts.reduce((sum, [across, down]) => sum + across * down, 0));
  }

  /** A drawing through this lens: what it sees is loaded, soon. */
  see(...view) {
    this.view = view;
    this.timer ??= setTimeout(() => this.settle(), SETTLE_MS);
  }

  settle() {
    const key = JSON.stringify(this.view);
    this.timer = null;
    // A still view that lost tiles to another viewer takes them back when it is drawn, not before.
    if (key !== this.settled && !this.held) this.want(...this.view);
    this.settled = key;
  }

  /** Load all that one lens sees; for pictures of a view. */
  async complete(lens, smooth) {
    this.held = true;
    this.want(lens, smooth);
    while (this.busy) await nextFrame();
    this.held = false;
    this.settled = "";
  }

  /** Find out what a lens sees. */
  choose(lens, smooth) {
    this.least = -1;
    do {
      // Where there is not room for all: less fine, everywhere alike.
      this.least += 1;
      this.wanted = tilesSeen(lens, this, smooth, this.least);
    } while (this.wanted.size > this.pool.layers.length);
  }

  want(...view) {
    const { pool, placed, pending } = this;
    this.choose(...view);
    this.looked = performance.now();
    for (const [key, layer] of placed) {
      if (layer >= 0 && this.wanted.has(key)) pool.layers[layer].seen = this.looked;
    }
    for (const [key, stop] of pending) if (!this.wanted.has(key)) stop.abort();
    pool.pump();
    this.changed?.(this.busy);
  }

  get busy() {
    return [...this.wanted].some((key) => !this.placed.has(key));
  }

  /** A tile lies in a layer now, or −1: there is none, because of a problem. */
  place(key, layer, problem) {
    this.placed.set(key, layer);
    this.tell();
    this.changed?.(this.busy, problem);
  }

  /** Another tile takes the place of this one. */
  forget(key) {
    this.placed.delete(key);
    this.wanted.delete(key);
    this.settled = "";
    this.tell();
  }

  /** Write the table, from the coarsest level on: where a tile is not there, the next coarser one stands in for it. */
  tell() {
    const { columns, rows, levels, placed, table, handle } = this;
    const { gl } = this.renderer;
    for (let place = 0; place < columns * rows; place += 1) {
      let entry = [0, 0, 0, 0];
      for (let level = levels.length - 1; level >= 0; level -= 1) {
        const [left, top] = [(place % columns) >> level, (place / columns) >> level];
        const layer = placed.get(`${level}_${left}_${top}`) ?? -1;
        if (layer >= 0) entry = [...levels[level], 65536 * (layer + 1) + TILE * left, TILE * top];
        table.set(entry, 4 * (level * columns * rows + place));
      }
    }
    gl.bindTexture(gl.TEXTURE_2D, handle.texture);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, columns, rows * levels.length, gl.RGBA, gl.FLOAT, table);
  }

  close() {
    clearTimeout(this.timer);
    this.wanted.clear();
    for (const stop of this.pending.values()) stop.abort();
    this.pool.leave(this);
    this.renderer.deleteTexture(this.handle);
    if (!this.kept) this.pyramid.close?.();
  }
}

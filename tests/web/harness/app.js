// What ComfyUI's /scripts/app.js gives to extensions, as far as PanoDiff uses it.
const kept = { ...window.keptSettings }; // what the server would know of the person's settings
const settings = {};

const setting = {
  get: (id) => kept[id] ?? settings[id]?.defaultValue,
  async set(id, value) {
    const before = setting.get(id);
    if (value === before) return;
    settings[id].onChange?.(value, before);
    kept[id] = value;
  },
};

export const app = {
  extensions: [],
  extensionManager: { setting },
  registerExtension(extension) {
    this.extensions.push(extension);
    for (const one of extension.settings ?? []) {
      settings[one.id] = one;
      one.onChange?.(setting.get(one.id), undefined);
    }
  },
};

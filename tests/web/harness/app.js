// What ComfyUI's /scripts/app.js gives to extensions, as far as PanoDiff uses it.
export const app = {
  extensions: [],
  registerExtension(extension) {
    this.extensions.push(extension);
  },
};

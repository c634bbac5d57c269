// What ComfyUI's /scripts/api.js gives to extensions, as far as PanoDiff uses it.
export const api = { apiURL: (route) => `/api${route}` };

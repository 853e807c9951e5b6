// @ts-check
/** Settings that are kept from visit to visit. Storage may be forbidden: then nothing is kept. */

export const settings = {
  /** @param {string} key */
  get: (key) => {
    try {
      return localStorage.getItem(`lipstream.${key}`);
    } catch {
      return null;
    }
  },
  /** @param {string} key @param {string} value */
  set: (key, value) => {
    try {
      localStorage.setItem(`lipstream.${key}`, value);
    } catch {
      // not kept
    }
  },
};

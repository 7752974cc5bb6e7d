// What all parts of the page share, and how they hear of changes.

/**
 * @typedef {{x: number[], y: number[], score: (number | null)[], contrast?: number[], reason?: string[]}} Columns
 * @typedef {{threshold: number | null, minContrast: number | null, maxContrast: number | null}} Choice what a pick is
 * @typedef {{[name: string]: [number, number]}} MarkSet
 * @typedef {{index: number, name: string, width: number, height: number, pixelSize: number | null, factor: number,
 *   candidates: Columns, rejected: Columns | null, reference: Columns | null, added: MarkSet, removed: MarkSet,
 *   complete: boolean, hidden: number[]}} Micrograph
 * @typedef {{version: number, names: string[], picks: number[], precision: (number | null)[], recall: (number | null)[],
 *   failed: {[index: string]: string}, defocus: (number | null)[], ice: (number | null)[], doubt: (number | null)[],
 *   complete: boolean[], edits: number[], advice: number[]}} List
 * @typedef {Choice & {folder: string, path: string, run: boolean, other: boolean, reference: boolean,
 *   diameter: number | null, readOnly: boolean}} Project
 */

export const state = {
  /** @type {Project} */ project: /** @type {any} */ (null),
  /** @type {List} */ list: /** @type {any} */ (null),
  /** @type {number[] | null} picks of each micrograph as the sliders say */ counts: null,
  /** @type {Micrograph | null} */ micrograph: null,
  /** @type {{matched: number[][], false: number[][], missed: number[][]} | null} */ agreement: null,
  /** @type {any} what changed elsewhere */ changes: null,
  index: 0,
  /** @type {Choice} as the sliders say */ choice: { threshold: null, minContrast: null, maxContrast: null },
  tool: "look",
  show: { picks: true, below: false, rejected: false, removed: false, mask: false, scores: false, reference: false },
  look: { size: 1, opacity: 0.9, low: 0.5, high: 99.5, smooth: "0", flat: true, invert: false },
};

const bus = new EventTarget();

/** @param {string} what @param {() => void} then */
export const on = (what, then) => bus.addEventListener(what, then);

/** @param {string} what */
export const tell = (what) => bus.dispatchEvent(new Event(what));

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** @param {string} text @param {boolean} [bad] @param {boolean} [stays] until something else is said */
export function say(text, bad = false, stays = bad) {
  const message = element("message");
  message.textContent = text;
  message.classList.toggle("bad", bad);
  message.hidden = !text;
  clearTimeout(say.timer);
  if (text && !stays) say.timer = setTimeout(() => (message.hidden = true), 4000);
}
/** @type {number | undefined} */
say.timer = undefined;

/** The choice in the words of the service; nothing where all are picks. */
export function asked() {
  const { threshold, minContrast, maxContrast } = state.choice;
  if (threshold === null) return "";
  const limits = { min_contrast: minContrast, max_contrast: maxContrast };
  const parts = Object.entries(limits).filter(([, value]) => value !== null);
  return [["threshold", threshold], ...parts].map(([name, value]) => `${name}=${value}`).join("&");
}

/** Radius of a particle in pixels of the micrograph; a guess where nothing is known. */
export function radius() {
  const { micrograph, project } = state;
  if (!micrograph) return 1;
  if (project.diameter && micrograph.pixelSize) return project.diameter / micrograph.pixelSize / 2;
  return Math.max(micrograph.width, micrograph.height) / 60;
}

/** @param {number | null | undefined} value */
export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)} %`);
/** @param {number} value */
export const count = (value) => value.toLocaleString("en");

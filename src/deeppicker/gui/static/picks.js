// Circles on the micrograph, and which of them is under the pointer.
import { radius, state } from "./state.js";

export const RAMP = ["#a52c8f", "#c43e7f", "#de5c69", "#f07f4f", "#fba238", "#fdca26", "#f0f921"];
export const COLOURS = {
  manual: "#35d0ff", removed: "#ffffff", rejected: "#ff6b6b", below: "#b8c1cc",
  matched: "#56b4e9", missed: "#e69f00", false: "#f781bf",
};

/** @typedef {{kind: "automatic" | "below" | "manual" | "removed" | "rejected", x: number, y: number,
 *   score?: number | null, contrast?: number, name?: string, reason?: string, number?: number}} Spot */

/** @type {{micrograph: unknown, hidden: unknown, set: Set<number>}} */
const cache = { micrograph: null, hidden: null, set: new Set() };

/** @returns {Set<number>} numbers of the candidates that marks hide */
export function hidden() {
  const micrograph = state.micrograph;
  if (cache.micrograph !== micrograph || cache.hidden !== micrograph?.hidden) {
    Object.assign(cache, { micrograph, hidden: micrograph?.hidden, set: new Set(micrograph?.hidden) });
  }
  return cache.set;
}

/**
 * Why a candidate is no pick as the sliders say; nothing if it is one.
 * @param {import("./state.js").Columns} candidates @param {number} i
 */
function fault({ score, contrast }, i) {
  const { threshold, minContrast, maxContrast } = state.choice;
  const value = score[i];
  if (threshold === null || value === null) return "";
  if (value < threshold) return "below";
  if (minContrast !== null && contrast && contrast[i] < minContrast) return "low contrast";
  return maxContrast !== null && contrast && contrast[i] > maxContrast ? "high contrast" : "";
}

/**
 * All that is shown now.
 * @returns {Generator<Spot>}
 */
export function* spots() {
  const { micrograph, show } = state;
  if (!micrograph) return;
  const { candidates, rejected, added, removed } = micrograph;
  const gone = hidden();
  for (let i = 0; i < candidates.x.length; i++) {
    if (gone.has(i)) continue;
    const reason = fault(candidates, i);
    const kind = reason === "" ? "automatic" : reason === "below" ? "below" : "rejected";
    if (!(kind === "rejected" ? show.rejected : show.picks && (kind === "automatic" || show.below))) continue;
    const [x, y, score] = [candidates.x[i], candidates.y[i], candidates.score[i]];
    yield { kind, x, y, score, contrast: candidates.contrast?.[i], reason, number: i };
  }
  if (show.picks)
    for (const [name, [x, y]] of Object.entries(added)) yield { kind: "manual", x, y, name };
  if (show.removed) for (const [name, [x, y]] of Object.entries(removed)) yield { kind: "removed", x, y, name };
  if (show.rejected && rejected)
    for (let i = 0; i < rejected.x.length; i++)
      yield { kind: "rejected", x: rejected.x[i], y: rejected.y[i], score: rejected.score[i], reason: rejected.reason?.[i] };
}

/** How many picks there are here: automatic ones that stay, and manual ones. */
export function counted() {
  const micrograph = state.micrograph;
  if (!micrograph) return { automatic: 0, manual: 0 };
  const gone = hidden();
  const automatic = micrograph.candidates.x.filter((_, i) => !gone.has(i) && !fault(micrograph.candidates, i)).length;
  return { automatic, manual: Object.keys(micrograph.added).length };
}

/**
 * The spot nearest to a place, if the place lies in it.
 * @param {number} x @param {number} y @param {number} least
 */
export function spotAt(x, y, least) {
  const reach = Math.max(least, 0.75 * radius() * state.look.size);
  /** @type {Spot | null} */ let best = null;
  let nearest = reach;
  for (const spot of spots()) {
    const distance = Math.hypot(spot.x - x, spot.y - y);
    if (distance <= nearest) [best, nearest] = [spot, distance];
  }
  return best;
}

/** @param {Spot} spot */
function colour(spot) {
  if (spot.kind !== "automatic") return COLOURS[spot.kind];
  if (spot.score === null || spot.score === undefined) return RAMP[4];
  return RAMP[Math.max(0, Math.min(RAMP.length - 1, Math.floor(spot.score * RAMP.length)))];
}

/**
 * @param {CanvasRenderingContext2D} context in page pixels @param {import("./viewer.js").View} view
 * @param {number} width @param {number} height @param {number} size radius of the circles in page pixels
 */
export function drawPicks(context, view, width, height, size) {
  const ring = Math.max(2.5, size);
  const place = (/** @type {number} */ x, /** @type {number} */ y) => [
    (x - view.x) * view.scale + width / 2,
    (y - view.y) * view.scale + height / 2,
  ];
  const outside = (/** @type {number} */ x, /** @type {number} */ y) =>
    x < -ring || y < -ring || x > width + ring || y > height + ring;
  context.globalAlpha = state.look.opacity;
  if (state.show.reference && state.agreement) {
    drawAgreement(context, place, ring);
    context.globalAlpha = 1;
    return;
  }
  for (const spot of spots()) {
    const [x, y] = place(spot.x, spot.y);
    if (outside(x, y)) continue;
    const stamp = stampOf(spot.kind, colour(spot), ring);
    context.drawImage(stamp, x - stamp.width / 2 / RATIO, y - stamp.height / 2 / RATIO, stamp.width / RATIO, stamp.height / RATIO);
  }
  context.globalAlpha = 1;
}

const RATIO = window.devicePixelRatio || 1;
/** @type {Map<string, HTMLCanvasElement>} */ const stamps = new Map();

/**
 * A circle that is drawn once and copied to each place: thousands are as quick as that.
 * @param {string} kind
 * @param {string} stroke @param {number} size
 */
function stampOf(kind, stroke, size) {
  const ring = Math.round(2 * size) / 2;
  const key = `${kind} ${stroke} ${ring}`;
  const found = stamps.get(key);
  if (found) return found;
  if (stamps.size > 200) stamps.clear();
  const canvas = document.createElement("canvas");
  const half = Math.ceil(ring) + 3;
  canvas.width = canvas.height = 2 * half * RATIO;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(RATIO, RATIO);
  const path = new Path2D();
  shape(path, kind, half, half, ring);
  context.lineCap = "round";
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.lineWidth = 3.5;
  context.stroke(path);
  context.strokeStyle = stroke;
  context.lineWidth = kind === "below" ? 1 : 1.75;
  if (kind === "below") context.setLineDash([3, 3]);
  context.stroke(path);
  stamps.set(key, canvas);
  return canvas;
}

/** Manual picks have a dot, removed ones a cross, rejected ones a square: colour is not all that tells them apart. */
function shape(/** @type {Path2D} */ path, /** @type {string} */ kind, /** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ ring) {
  const small = Math.min(6, ring * 0.5);
  if (kind === "removed") {
    path.moveTo(x - small, y - small);
    path.lineTo(x + small, y + small);
    path.moveTo(x + small, y - small);
    path.lineTo(x - small, y + small);
    return;
  }
  if (kind === "rejected") {
    path.rect(x - ring * 0.7, y - ring * 0.7, ring * 1.4, ring * 1.4);
    return;
  }
  path.moveTo(x + ring, y);
  path.arc(x, y, ring, 0, 2 * Math.PI);
  if (kind === "manual") {
    path.moveTo(x + 1, y);
    path.arc(x, y, 1, 0, 2 * Math.PI);
  }
}

/** @param {CanvasRenderingContext2D} context @param {(x: number, y: number) => number[]} place @param {number} ring */
function drawAgreement(context, place, ring) {
  const agreement = /** @type {any} */ (state.agreement);
  for (const [kind, dash] of /** @type {[string, number[]][]} */ ([["matched", []], ["false", [3, 3]], ["missed", [8, 4]]])) {
    const path = new Path2D();
    for (const [px, py] of agreement[kind]) {
      const [x, y] = place(px, py);
      path.moveTo(x + ring, y);
      path.arc(x, y, ring, 0, 2 * Math.PI);
    }
    context.setLineDash([]);
    context.strokeStyle = "rgb(0 0 0 / 45%)";
    context.lineWidth = 3.5;
    context.stroke(path);
    context.setLineDash(dash);
    context.strokeStyle = /** @type {any} */ (COLOURS)[kind];
    context.lineWidth = kind === "false" ? 2.75 : 2;
    context.stroke(path);
  }
  context.setLineDash([]);
}

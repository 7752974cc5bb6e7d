// The canvas: where one looks, what is drawn, scale bar.
import { element, on, radius, state, tell } from "./state.js";
import * as picture from "./picture.js";
import { drawPicks } from "./picks.js";

/** @typedef {{x: number, y: number, scale: number}} View centre in pixels of the micrograph; page pixels to one of them */

/** @type {HTMLCanvasElement} */ export const canvas = element("canvas");
const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
/** @type {View} */ export const view = { x: 0, y: 0, scale: 1 };
/**
 * What a tool draws over all.
 * @type {((context: CanvasRenderingContext2D) => void) | null}
 */
let overlay = null;
let fitted = true;
/** What was painted last, with a margin around it: while one only moves, it is copied. */
const scene = {
  canvas: document.createElement("canvas"),
  view: { x: 0, y: 0, scale: 0 },
  margin: [0, 0], // page pixels on either side
  fresh: false,
};
const MARGIN = 0.25; // of the width and height
let last = { scale: 0, width: 0, height: 0 }; // as it was drawn
let changed = true;
let asked = false;
const BAR = 62; // page pixels above and below that the tools take

/** @param {((context: CanvasRenderingContext2D) => void) | null} draw */
export function setOverlay(draw) {
  overlay = draw;
  redraw();
}

/** @param {number} x @param {number} y */
export const toMicrograph = (x, y) => ({
  x: view.x + (x - canvas.clientWidth / 2) / view.scale,
  y: view.y + (y - canvas.clientHeight / 2) / view.scale,
});

/** @param {number} x @param {number} y */
export const toScreen = (x, y) => ({
  x: (x - view.x) * view.scale + canvas.clientWidth / 2,
  y: (y - view.y) * view.scale + canvas.clientHeight / 2,
});

export function fit() {
  const micrograph = state.micrograph;
  if (!micrograph || !canvas.clientWidth) return;
  const room = [canvas.clientWidth - 16, canvas.clientHeight - 2 * BAR];
  view.scale = Math.max(1e-3, Math.min(room[0] / micrograph.width, room[1] / micrograph.height));
  view.x = micrograph.width / 2 - 0.5;
  view.y = micrograph.height / 2 - 0.5;
  fitted = true;
  redraw();
}

/** @param {number} dx @param {number} dy in page pixels */
export function pan(dx, dy) {
  moveTo(view.x - dx / view.scale, view.y - dy / view.scale);
}

/** @param {number} x @param {number} y */
export function moveTo(x, y) {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  view.x = Math.min(micrograph.width, Math.max(0, x));
  view.y = Math.min(micrograph.height, Math.max(0, y));
  fitted = false;
  redraw();
}

/** @param {number} by @param {number} [x] @param {number} [y] the place in page pixels that stays */
export function zoom(by, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const before = toMicrograph(x, y);
  view.scale = Math.min(16, Math.max(0.01, view.scale * by));
  const after = toMicrograph(x, y);
  moveTo(view.x + before.x - after.x, view.y + before.y - after.y);
}

/** Go through the micrograph screen by screen, row by row; return whether it ends here. */
export function walk() {
  const micrograph = state.micrograph;
  if (!micrograph) return true;
  const step = [0.9 * canvas.clientWidth / view.scale, 0.9 * canvas.clientHeight / view.scale];
  const half = [canvas.clientWidth / view.scale / 2, canvas.clientHeight / view.scale / 2];
  if (view.x + half[0] < micrograph.width - 1) moveTo(view.x + step[0], view.y);
  else if (view.y + half[1] < micrograph.height - 1) moveTo(Math.min(half[0], micrograph.width / 2), view.y + step[1]);
  else return true;
  return false;
}

/** Look at the first screen, at the present zoom. */
export function walkFromStart() {
  const micrograph = state.micrograph;
  if (!micrograph || fitted) return;
  moveTo(
    Math.min(canvas.clientWidth / view.scale, micrograph.width) / 2,
    Math.min(canvas.clientHeight / view.scale, micrograph.height) / 2,
  );
}

export const isFitted = () => fitted;

export function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(draw);
}

/** Draw what is to be seen: anew if it has changed or is zoomed, or else from a copy. */
function draw() {
  asked = false;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  if (!state.micrograph) return empty(context);
  const same = !changed && last.scale === view.scale && last.width === width && last.height === height;
  if (same) copyScene(width, height, ratio);
  else {
    empty(context);
    paint(context, view, width, height, ratio);
    scene.fresh = changed = false;
  }
  last = { scale: view.scale, width, height };
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawScaleBar(context, view, width, height);
  overlay?.(context);
  tell("drawn");
}

/** @param {CanvasRenderingContext2D} on */
function empty(on) {
  on.setTransform(1, 0, 0, 1, 0, 0);
  on.fillStyle = getComputedStyle(canvas.parentElement ?? canvas).backgroundColor;
  on.fillRect(0, 0, on.canvas.width, on.canvas.height);
}

/** Copy what was painted before, and paint it with a margin first if the view lies outside of it.
 * @param {number} width @param {number} height @param {number} ratio */
function copyScene(width, height, ratio) {
  const away = () => [(scene.view.x - view.x) * view.scale, (scene.view.y - view.y) * view.scale];
  if (!scene.fresh || away().some((by, i) => Math.abs(by) > scene.margin[i])) {
    scene.margin = [Math.round(width * MARGIN), Math.round(height * MARGIN)];
    const [wide, tall] = [width + 2 * scene.margin[0], height + 2 * scene.margin[1]];
    Object.assign(scene, { view: { ...view }, fresh: true });
    scene.canvas.width = Math.round(wide * ratio);
    scene.canvas.height = Math.round(tall * ratio);
    const on = /** @type {CanvasRenderingContext2D} */ (scene.canvas.getContext("2d", { alpha: false }));
    empty(on);
    paint(on, view, wide, tall, ratio);
  }
  const at = away().map((by, i) => Math.round((by - scene.margin[i]) * ratio));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(scene.canvas, at[0], at[1]);
}

/**
 * @param {CanvasRenderingContext2D} on @param {View} at @param {number} width @param {number} height
 * @param {number} ratio
 */
export function paint(on, at, width, height, ratio) {
  const scale = at.scale * ratio;
  on.setTransform(scale, 0, 0, scale, (ratio * width) / 2 - at.x * scale, (ratio * height) / 2 - at.y * scale);
  const half = [width / 2 / at.scale, height / 2 / at.scale];
  const area = { left: at.x - half[0], right: at.x + half[0], top: at.y - half[1], bottom: at.y + half[1] };
  picture.draw(on, at, ratio, area);
  on.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawPicks(on, at, width, height, radius() * at.scale * state.look.size);
}

/** @param {CanvasRenderingContext2D} on @param {View} at @param {number} width @param {number} height */
export function drawScaleBar(on, at, width, height) {
  const size = state.micrograph?.pixelSize;
  if (!size) return;
  const most = (Math.min(160, width / 4) / at.scale) * size;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
  const pixels = (length / size) * at.scale;
  const label = length >= 10000 ? `${length / 10000} µm` : length >= 1000 ? `${length / 10} nm` : `${length} Å`;
  const [x, y] = [16, height - (width < 560 ? 18 + BAR : 18)]; // where there is little room, above the tools
  on.font = "600 12px system-ui, sans-serif";
  on.fillStyle = "rgb(0 0 0 / 60%)";
  on.beginPath();
  /** @type {any} */ (on).roundRect(x - 8, y - 20, Math.max(pixels, on.measureText(label).width) + 16, 30, 6);
  on.fill();
  on.fillStyle = "#fff";
  on.fillRect(x, y, pixels, 3);
  on.fillText(label, x, y - 6);
}

new ResizeObserver(() => (fitted ? fit() : redraw())).observe(canvas);
on("draw", () => {
  changed = true;
  redraw();
});

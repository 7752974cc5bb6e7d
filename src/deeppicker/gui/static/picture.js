// The image of the micrograph on screen: reduced at first, finer tiles where one zooms in, contrast by a table.
import { say, state, tell } from "./state.js";

const TILE = 512;
const MOST_TILES = 80;

/** @typedef {{grey: Uint8ClampedArray, canvas: HTMLCanvasElement, made: number}} Grey */

/** @type {Grey | null} */ let base = null;
/** @type {Map<string, Grey | null>} */ const tiles = new Map();
let cumulative = new Float64Array(257);
let table = new Uint8ClampedArray(256);
let made = 0;
let wanted = "";

/** @param {string} address @returns {Promise<HTMLImageElement>} */
function load(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error(address));
    image.src = address;
  });
}

/** @param {HTMLImageElement} image @returns {Grey} */
function greyOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  const grey = new Uint8ClampedArray(pixels.length / 4);
  for (let i = 0; i < grey.length; i++) grey[i] = pixels[4 * i];
  const shown = document.createElement("canvas"); // another one, which is only drawn: it may lie on the graphics card
  shown.width = image.width;
  shown.height = image.height;
  return { grey, canvas: shown, made: -1 };
}

/**
 * Draw the grey values through the table of contrast.
 * @param {Grey} item
 */
function develop(item) {
  if (item.made === made) return item.canvas;
  const context = /** @type {CanvasRenderingContext2D} */ (item.canvas.getContext("2d"));
  const image = context.createImageData(item.canvas.width, item.canvas.height);
  const out = new Uint32Array(image.data.buffer);
  const words = new Uint32Array(256);
  for (let v = 0; v < 256; v++) words[v] = 0xff000000 | (table[v] * 0x010101);
  for (let i = 0; i < out.length; i++) out[i] = words[item.grey[i]];
  context.putImageData(image, 0, 0);
  item.made = made;
  return item.canvas;
}

/** Make the table anew from the percentiles that are black and white. */
export function contrast() {
  const { low, high, invert } = state.look;
  const total = cumulative[256] || 1;
  const at = (/** @type {number} */ percentile) => cumulative.findIndex((sum) => sum >= (percentile / 100) * total);
  const black = Math.max(0, at(low) - 1);
  const white = Math.max(black + 1, at(high));
  for (let v = 0; v < 256; v++) {
    const level = (255 * (v - black)) / (white - black);
    table[v] = invert ? 255 - Math.min(255, Math.max(0, level)) : level;
  }
  made++;
  tell("draw");
}

/**
 * What the service is asked for.
 * @param {number} step pixels of the micrograph to one of the picture
 */
function filters(step) {
  const { micrograph, project, look } = state;
  const size = micrograph?.pixelSize ?? 1;
  const across = project.diameter ? project.diameter / size / step : 40;
  const particle = look.smooth === "particle";
  const smooth = particle ? across / 12 : Number(look.smooth) / size / step / 2;
  const flat = particle ? across / 1.5 : look.flat ? 2 * across : 0;
  return { flat: flat.toFixed(2), smooth: smooth.toFixed(2) };
}

/** Show the micrograph of the state; the old picture goes at once. */
export async function open() {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  const { flat, smooth } = filters(micrograph.factor);
  const address = `api/micrographs/${micrograph.index}/image?factor=${micrograph.factor}&flat=${flat}&smooth=${smooth}`;
  if (wanted === address) return;
  const other = !wanted.startsWith(`api/micrographs/${micrograph.index}/`);
  wanted = address;
  tiles.clear();
  if (other) {
    base = null;
    tell("draw");
  }
  const image = await load(address);
  if (wanted !== address) return;
  base = greyOf(image);
  const histogram = new Float64Array(256);
  for (const value of base.grey) histogram[value]++;
  cumulative = new Float64Array(257);
  for (let v = 0; v < 256; v++) cumulative[v + 1] = cumulative[v] + histogram[v];
  contrast();
  tell("pictured");
}

/** What can be laid over the image, each a picture of its own: its address, and colour and opacity for a grey value. */
const LAYERS = {
  mask: { path: "mask", tint: (/** @type {number} */ grey) => [213, 94, 0, grey ? 110 : 0] },
  scores: { path: "scores", tint: (/** @type {number} */ grey) => [53, 208, 255, Math.round(0.7 * grey)] },
};
/** @typedef {keyof typeof LAYERS} Layer */
/** @type {Map<Layer, {address: string, canvas: HTMLCanvasElement | null}>} */ const layers = new Map();

/** Fetch the layers that are to be shown. */
export async function openLayers() {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  await Promise.all(/** @type {Layer[]} */ (Object.keys(LAYERS)).filter((name) => state.show[name]).map(async (name) => {
    const address = `api/micrographs/${micrograph.index}/${LAYERS[name].path}`;
    if (layers.get(name)?.address === address) return;
    const layer = { address, canvas: /** @type {HTMLCanvasElement | null} */ (null) };
    layers.set(name, layer);
    if (name === "scores") say("The score map is computed; this takes some seconds.", false, true);
    try {
      layer.canvas = await tinted(address, LAYERS[name].tint);
      if (name === "scores") say("");
    } catch (error) {
      if (name === "scores") say(/** @type {Error} */ (error).message, true);
    }
    tell("draw");
  }));
}

/** @param {string} address @param {(grey: number) => number[]} tint */
async function tinted(address, tint) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).error);
  const image = await createImageBitmap(await answer.blob());
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const paint = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  paint.drawImage(image, 0, 0);
  const pixels = paint.getImageData(0, 0, image.width, image.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set(tint(pixels.data[i]), i);
  paint.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * The tiles that the view needs.
 * @param {import("./viewer.js").View} view @param {number} ratio
 */
function level(view, ratio) {
  const micrograph = /** @type {import("./state.js").Micrograph} */ (state.micrograph);
  const wish = 1 / (view.scale * ratio);
  if (wish > micrograph.factor * 0.75 || micrograph.factor === 1 || state.look.smooth !== "0") return 0;
  let factor = 1;
  while (factor * 2 <= wish) factor *= 2;
  return factor < micrograph.factor ? factor : 0;
}

/** @param {number} factor @param {number} column @param {number} row @returns {Grey | null} */
function tileAt(factor, column, row) {
  const micrograph = /** @type {import("./state.js").Micrograph} */ (state.micrograph);
  const key = `${factor}/${column}/${row}`;
  const found = tiles.get(key);
  if (found !== undefined) {
    tiles.delete(key);
    tiles.set(key, found); // used last
    return found;
  }
  tiles.set(key, null);
  const at = wanted;
  const { flat } = filters(micrograph.factor);
  load(`api/micrographs/${micrograph.index}/tile/${key}?flat=${flat}&factor=${micrograph.factor}`)
    .then((image) => {
      if (wanted === at) tiles.set(key, greyOf(image));
      for (const old of tiles.keys()) if (tiles.size > MOST_TILES) tiles.delete(old);
      tell("draw");
    })
    .catch(() => tiles.delete(key));
  return null;
}

/**
 * Draw what is there of the image.
 * @param {CanvasRenderingContext2D} context with pixels of the micrograph as its unit
 * @param {import("./viewer.js").View} view @param {number} ratio device pixels to one of the page
 * @param {{left: number, top: number, right: number, bottom: number}} area of the micrograph on screen
 */
export function draw(context, view, ratio, area) {
  const micrograph = state.micrograph;
  if (!micrograph || !base) return;
  const step = micrograph.factor;
  context.imageSmoothingEnabled = view.scale * step < 6;
  context.drawImage(develop(base), -0.5, -0.5, base.canvas.width * step, base.canvas.height * step);
  const factor = level(view, ratio);
  if (factor) {
    const side = TILE * factor;
    context.imageSmoothingEnabled = view.scale * factor < 6;
    const last = [Math.ceil(micrograph.width / side) - 1, Math.ceil(micrograph.height / side) - 1];
    for (let row = Math.max(0, Math.floor(area.top / side)); row <= Math.min(last[1], area.bottom / side); row++)
      for (let column = Math.max(0, Math.floor(area.left / side)); column <= Math.min(last[0], area.right / side); column++) {
        const found = tileAt(factor, column, row);
        if (!found) continue;
        const { width, height } = found.canvas;
        context.drawImage(develop(found), column * side - 0.5, row * side - 0.5, width * factor, height * factor);
      }
  }
  for (const name of /** @type {Layer[]} */ (Object.keys(LAYERS))) drawLayer(context, micrograph, name);
}

/** @param {CanvasRenderingContext2D} context @param {import("./state.js").Micrograph} micrograph @param {Layer} name */
function drawLayer(context, micrograph, name) {
  const layer = layers.get(name);
  if (!state.show[name] || !layer?.canvas || !layer.address.startsWith(`api/micrographs/${micrograph.index}/`)) return;
  const { width, height } = layer.canvas;
  const factor = Math.ceil(micrograph.width / width);
  context.imageSmoothingEnabled = name === "scores";
  context.drawImage(layer.canvas, -0.5, -0.5, width * factor, height * factor);
}

// Particles side by side: the least certain first; select many, reject or keep them at once, or go to one.
import { get } from "./api.js";
import { editElsewhere, newName } from "./edits.js";
import { go } from "./list.js";
import { cropOf, make, savePicture } from "./make.js";
import { asked, count, element, on, say, state } from "./state.js";
import { show as showView } from "./views.js";
import { moveTo, view } from "./viewer.js";

/** @typedef {{index: number, x: number, y: number, score: number | null, name?: string}} Item a manual one has a name */

let order = "doubtful";
let start = 0;
/** @type {Item[]} */ let items = [];
/** @type {Set<Item>} */ const chosen = new Set();
let last = -1;

/** Reject the chosen ones, or keep those that lie below the threshold. */
function decide() {
  /** @type {Map<string, import("./edits.js").Change[]>} */ const batches = new Map();
  const kind = shunned() ? "added" : "removed";
  for (const { index, x, y, name: mark } of chosen) {
    const micrograph = state.list.names[index];
    const changes = batches.get(micrograph) ?? [];
    const name = mark ?? newName();
    const put = /** @type {import("./edits.js").Edit} */ ({ op: "put", name, kind: mark ? "added" : kind, x, y });
    changes.push(mark ? { forth: { op: "drop", name }, back: put } : { forth: put, back: { op: "drop", name } });
    batches.set(micrograph, changes);
  }
  editElsewhere(batches);
  const number = chosen.size;
  items = items.filter((item) => !chosen.has(item));
  chosen.clear();
  draw();
  element("gallery-note").textContent = `${number} ${kind === "added" ? "kept" : "rejected"}; Ctrl+Z takes it back.`;
}

/** @type {Item | null} */ let visited = null;

/** @param {Item} item */
function visit(item) {
  visited = item;
  showView("look");
  go(item.index);
}

on("opened", () => {
  if (!visited || state.micrograph?.index !== visited.index) return;
  view.scale = Math.max(view.scale, 1);
  moveTo(visited.x, visited.y);
  visited = null;
});

/** @param {number} place */
function press(place, /** @type {MouseEvent} */ event) {
  const range = event.shiftKey && last >= 0 ? [Math.min(last, place), Math.max(last, place)] : [place, place];
  const into = !chosen.has(items[place]);
  for (let i = range[0]; i <= range[1]; i++) into ? chosen.add(items[i]) : chosen.delete(items[i]);
  last = place;
  marks();
}

function marks() {
  document.querySelectorAll("#gallery .crop").forEach((crop, i) => crop.setAttribute("aria-pressed", String(chosen.has(items[i]))));
  const button = element("gallery-decide");
  button.textContent = `${shunned() ? "Keep" : "Reject"} ${chosen.size || ""}`;
  button.disabled = chosen.size === 0 || state.project.readOnly;
  element("gallery-visit").disabled = chosen.size !== 1;
}

/** All crops of this page as one picture. */
async function sheet() {
  const images = /** @type {HTMLImageElement[]} */ ([...document.querySelectorAll("#gallery .crop img")]);
  for (const image of images) image.loading = "eager";
  await Promise.allSettled(images.map((image) => image.decode()));
  const [side, gap] = [96, 4];
  const columns = Math.min(12, images.length || 1);
  const canvas = make("canvas");
  canvas.width = columns * (side + gap) + gap;
  canvas.height = Math.ceil(images.length / columns) * (side + gap) + gap;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  images.forEach((image, i) => {
    if (image.naturalWidth) context.drawImage(image, gap + (i % columns) * (side + gap), gap + Math.floor(i / columns) * (side + gap), side, side);
  });
  return canvas;
}

/** Orders that need the contrast of picks. */
const ofContrast = () =>
  element("contrast-card").hidden ? [] : [["faint", "Picks, faintest first"], ["filtered", "Kept out by their contrast"]];

/** Whether what is shown are no picks, so that one may keep them. */
const shunned = () => order === "below" || order === "filtered";

let total = 0;
/** @type {string[][]} */ let classes = [];

/**
 * Go through the members of a class.
 * @param {number} number
 */
export function showClass(number) {
  order = `class ${number}`;
  start = 0;
  showView("gallery");
}

function draw() {
  const inner = make("div", "", "inner");
  const head = make("div", "", "head");
  const select = make("select");
  select.setAttribute("aria-label", "Which particles");
  for (const [value, text] of [["doubtful", "Picks, least certain first"], ["best", "Picks, best first"], ["below", "Just below the threshold"], ["defocus", "Picks by defocus"], ...ofContrast(), ...classes])
    select.append(new Option(text, value, false, value === order));
  select.addEventListener("change", () => {
    order = select.value;
    start = 0;
    load();
  });
  const all = make("button", "Select all");
  all.addEventListener("click", () => {
    for (const item of items) chosen.add(item);
    marks();
  });
  const none = make("button", "None");
  none.addEventListener("click", () => {
    chosen.clear();
    marks();
  });
  const go = make("button", "Show in its micrograph");
  go.id = "gallery-visit";
  go.addEventListener("click", () => visit([...chosen][0]));
  const main = make("button", "", "main");
  main.id = "gallery-decide";
  main.addEventListener("click", decide);
  const picture = savePicture(`${state.project.folder}-particles.png`, sheet);
  head.append(make("h2", "Particles"), select, all, none, picture, go, main);
  const note = make("p", "Click selects, Shift+click selects a range.", "note");
  note.id = "gallery-note";
  note.setAttribute("role", "status");
  const crops = make("div", "", "crops");
  items.forEach((item, i) => {
    const crop = make("button", "", "crop");
    const defocus = state.list.defocus[item.index];
    const label = item.name ? "by hand" : item.score === null ? "" : item.score.toFixed(2);
    crop.title = state.list.names[item.index] + (defocus === null ? "" : `, ${defocus.toFixed(2)} µm`);
    crop.setAttribute("aria-label", `Particle of ${state.list.names[item.index]}, ${item.name ? "" : "score "}${label}`);
    crop.append(cropOf(item), make("span", label));
    crop.addEventListener("click", (/** @type {MouseEvent} */ event) => press(i, event));
    crop.addEventListener("dblclick", () => visit(item));
    crops.append(crop);
  });
  const pages = make("div", "", "head");
  for (const [text, by] of /** @type {[string, number][]} */ ([["‹ Before", -120], ["Next ›", 120]])) {
    const button = make("button", text);
    button.disabled = start + by < 0 || start + by >= total;
    button.addEventListener("click", () => {
      start += by;
      load();
    });
    pages.append(button);
  }
  pages.append(make("span", total ? `${count(start + 1)}–${count(Math.min(total, start + 120))} of ${count(total)}` : "none", "note"));
  inner.append(head, note, crops, pages);
  element("gallery").replaceChildren(inner);
  marks();
}

async function load() {
  const which = order.startsWith("class ") ? `class=${order.slice(6)}` : `order=${order}`;
  const [answer, told] = await Promise.all([get(`gallery?${which}&start=${start}&${asked()}`), get("classes")]);
  ({ items, total } = answer);
  classes = told.classes.map((/** @type {{number: number, members: number}} */ one) => [
    `class ${one.number}`,
    `Class ${one.number}, ${count(one.members)} picks`,
  ]);
  chosen.clear();
  last = -1;
  draw();
}

on("view gallery", () => load().catch((error) => say(error.message, true)));

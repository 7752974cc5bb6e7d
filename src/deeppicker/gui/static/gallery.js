// Particles side by side: the least certain first; select many, reject or keep them at once, or go to one.
import { get } from "./api.js";
import { editElsewhere, newName } from "./edits.js";
import { go } from "./list.js";
import { count, element, on, say, state } from "./state.js";
import { show as showView } from "./views.js";
import { moveTo, view } from "./viewer.js";

/** @typedef {{index: number, x: number, y: number, score: number}} Item */

let order = "doubtful";
let start = 0;
/** @type {Item[]} */ let items = [];
/** @type {Set<Item>} */ const chosen = new Set();
let last = -1;

/** @param {string} kind @param {string} [text] @param {string} [look] @returns {any} */
function make(kind, text = "", look = "") {
  const item = document.createElement(kind);
  item.textContent = text;
  if (look) item.className = look;
  if (kind === "button") item.setAttribute("type", "button");
  return item;
}

/** Reject the chosen ones, or keep those that lie below the threshold. */
function decide() {
  /** @type {Map<string, import("./edits.js").Edit[]>} */ const batches = new Map();
  const kind = order === "below" ? "added" : "removed";
  for (const { index, x, y } of chosen) {
    const name = state.list.names[index];
    const edits = batches.get(name) ?? [];
    edits.push({ op: "put", name: newName(), kind, x, y });
    batches.set(name, edits);
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
  button.textContent = `${order === "below" ? "Keep" : "Reject"} ${chosen.size || ""}`;
  button.disabled = chosen.size === 0 || state.project.readOnly;
  element("gallery-visit").disabled = chosen.size !== 1;
}

let total = 0;

function draw() {
  const inner = make("div", "", "inner");
  const head = make("div", "", "head");
  const select = make("select");
  select.setAttribute("aria-label", "Which particles");
  for (const [value, text] of [["doubtful", "Picks, least certain first"], ["best", "Picks, best first"], ["below", "Just below the threshold"]])
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
  head.append(make("h2", "Particles"), select, all, none, go, main);
  const note = make("p", "Click selects, Shift+click selects a range.", "note");
  note.id = "gallery-note";
  note.setAttribute("role", "status");
  const crops = make("div", "", "crops");
  items.forEach((item, i) => {
    const crop = make("button", "", "crop");
    const image = document.createElement("img");
    image.loading = "lazy";
    image.alt = "";
    image.src = `api/micrographs/${item.index}/crop?x=${item.x}&y=${item.y}`;
    crop.title = state.list.names[item.index];
    crop.setAttribute("aria-label", `Particle of ${state.list.names[item.index]}, score ${item.score.toFixed(2)}`);
    crop.append(image, make("span", item.score.toFixed(2)));
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
  const threshold = state.threshold ?? 0;
  const answer = await get(`gallery?order=${order}&start=${start}&threshold=${threshold}`);
  ({ items, total } = answer);
  chosen.clear();
  last = -1;
  draw();
}

on("view gallery", () => load().catch((error) => say(error.message, true)));

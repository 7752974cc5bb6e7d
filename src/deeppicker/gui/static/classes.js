// Class averages: click keeps or drops a class, pointing at one shows its particles.
import { get, newest, post } from "./api.js";
import { showClass } from "./gallery.js";
import { button, cropOf, download, make } from "./make.js";
import { count, element, on, say, state } from "./state.js";

/** @typedef {{number: number, members: number, quality: number, resolution: number, limited: boolean, good: boolean, kept: boolean}} Class
 * @typedef {{version: number, folder: string, classes: Class[], picks: number, kept?: number, number?: number}} Told */

const SHOWN = 24; // particles of a class beside the averages
/** @type {Told | null} */ let told = null;
/** @type {Set<number>} */ const kept = new Set();
let drawn = "";
let seen = 0;
let pointed = 0;

/** @param {string} id @param {string} text */
function note(id, text) {
  const line = make("p", text, "note");
  line.id = id;
  return line;
}

async function load() {
  told = /** @type {Told} */ (await get("classes"));
  seen = told.version;
  choose((one) => one.kept);
  pointed = told.classes[0]?.number ?? 0;
  draw();
}

/** @param {(one: Class) => boolean} which */
function choose(which) {
  kept.clear();
  for (const one of told?.classes ?? []) if (which(one)) kept.add(one.number);
}

const pressed = () => document.querySelectorAll("#classes .average");

function marks() {
  if (!told) return;
  for (const one of pressed())
    one.setAttribute("aria-pressed", String(kept.has(Number(/** @type {HTMLElement} */ (one).dataset.number))));
  const picks = told.classes.filter((one) => kept.has(one.number)).reduce((sum, one) => sum + one.members, 0);
  const changed = told.classes.some((one) => one.kept !== kept.has(one.number));
  element("classes-count").textContent = `${kept.size} of ${told.classes.length} classes, ${count(picks)} of ${count(told.picks)} picks`;
  const keep = element("classes-keep");
  keep.disabled = !changed || kept.size === 0 || state.project.readOnly;
}

async function write() {
  try {
    told = /** @type {Told} */ (await post("classes", { keep: [...kept] }));
    seen = told.version;
    marks();
    element("classes-note").textContent =
      `${count(told.kept ?? 0)} picks are kept, without the outliers of their classes: ${told.folder}/kept`;
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    element("classes-note").textContent = /** @type {Error} */ (error).message;
  }
}

const ask = newest(
  (/** @type {number} */ number) => get(`gallery?class=${number}`),
  (answer, number) => number === pointed && showMembers(number, answer),
);

/** @param {number} number */
function point(number) {
  pointed = number;
  ask(number).catch((error) => say(error.message, true));
}

/** @param {number} number @param {{items: import("./gallery.js").Item[], total: number}} answer */
function showMembers(number, answer) {
  const one = told?.classes.find((other) => other.number === number);
  const box = element("classes-members");
  if (!one || !box) return;
  const crops = make("div", "", "crops small");
  for (const item of answer.items.slice(0, SHOWN)) {
    const crop = make("div", "", "crop");
    crop.append(cropOf(item));
    crops.append(crop);
  }
  const judged = one.good ? "judged good" : "judged junk";
  box.replaceChildren(
    make("h3", `Class ${number}`),
    make("p", `${count(one.members)} picks · quality ${one.quality.toFixed(2)}, ${judged} · ${one.limited ? "better than " : ""}${one.resolution.toFixed(0)} Å`, "note"),
    crops,
    button("Go through all of them", () => showClass(number)),
  );
}

/** @param {Class} one */
function average(one) {
  const item = make("button", "", "average");
  item.dataset.number = String(one.number);
  item.setAttribute("aria-label", `Class ${one.number}, ${one.members} picks, quality ${one.quality.toFixed(2)}`);
  const image = make("img");
  image.alt = "";
  image.src = `api/classes/${one.number}/average?v=${told?.version}`;
  item.append(image, make("span", `${one.number} · ${count(one.members)}`));
  item.addEventListener("click", () => {
    if (!kept.delete(one.number)) kept.add(one.number);
    marks();
  });
  for (const event of ["pointerenter", "focus"]) item.addEventListener(event, () => point(one.number));
  return item;
}

/** How far the job is, or how to start it. */
function work() {
  const tile = make("section", "", "tile");
  const job = state.changes?.classifying;
  if (job?.state === "running") {
    const bar = make("progress");
    bar.max = job.total || 1;
    if (job.total) bar.value = job.done || 0;
    bar.setAttribute("aria-label", job.step);
    const left = job.left ? `, about ${job.left > 90 ? `${Math.round(job.left / 60)} minutes` : `${Math.ceil(job.left)} seconds`} left` : "";
    tile.append(make("p", `${job.step}: ${job.done ?? 0} of ${job.total ?? "?"}${left}`, "lead"), bar);
    tile.append(button("Cancel", () => start("cancel")));
    return tile;
  }
  if (job?.state === "failed") tile.append(make("p", job.error, "saved bad"));
  if (job?.state === "cancelled") tile.append(make("p", "Cancelled. What was done so far is continued.", "note"));
  const again = Boolean(told?.classes.length);
  tile.append(make("p", "Picks are aligned and averaged in classes, as corrected and at the threshold of the run. It takes minutes, and goes on when you close this page.", "note"));
  const begin = button(again ? "Classify again" : "Classify the picks", () => start("classify"), again ? "" : "main");
  begin.disabled = state.project.readOnly;
  tile.append(begin);
  return tile;
}

/** @param {string} what */
async function start(what) {
  try {
    state.changes = { ...state.changes, ...(await post("job", { do: what })) };
    draw();
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    element("classes-note").textContent = /** @type {Error} */ (error).message;
  }
}

function draw() {
  if (document.body.dataset.view !== "classes" || !told) return;
  drawn = JSON.stringify(state.changes?.classifying);
  const inner = make("div", "", "inner");
  const head = make("div", "", "head");
  head.append(make("h2", "Classes"));
  const line = note("classes-note", "Click keeps or drops a class. Point at one to see its particles.");
  line.setAttribute("role", "status");
  if (!told.classes.length) {
    line.textContent = "Nothing was classified yet.";
    inner.append(head, line, work());
    element("classes").replaceChildren(inner);
    return;
  }
  const name = state.project.folder;
  head.append(
    note("classes-count", ""),
    button("Judged good", () => (choose((one) => one.good), marks())),
    button("All", () => (choose(() => true), marks())),
    button("None", () => (choose(() => false), marks())),
    download(`${name}-classes.png`, "api/classes/picture"),
    download(`${name}-classes.csv`, "api/classes/table"),
  );
  const keep = button("Keep these", write, "main");
  keep.id = "classes-keep";
  head.append(keep);
  const averages = make("div", "", "averages");
  averages.append(...told.classes.map(average));
  const side = make("section", "", "tile members");
  side.id = "classes-members";
  const both = make("div", "", "beside");
  both.append(averages, side);
  inner.append(head, line, both, work());
  element("classes").replaceChildren(inner);
  marks();
  point(pointed);
}

const show = () => load().catch((error) => say(error.message, true));
on("view classes", show);
on("changes", () => {
  if (document.body.dataset.view !== "classes") return;
  if (told && state.changes.classes !== seen) show();
  else if (JSON.stringify(state.changes.classifying) !== drawn) draw();
});

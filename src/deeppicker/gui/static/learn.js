// Learn from corrections: what is needed, how far it is, what came of it.
import { get, post } from "./api.js";
import { go } from "./list.js";
import { blob, csv, download, make, savePicture } from "./make.js";
import { count, element, on, percent, say, state } from "./state.js";
import { show } from "./views.js";

/** @param {string} text @param {string} what @param {string} [look] */
function action(text, what, look = "") {
  const button = /** @type {HTMLButtonElement} */ (make("button", text, look));
  button.disabled = state.project.readOnly;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const answer = await post("job", { do: what });
      state.changes = { ...state.changes, job: answer.job };
      if (["accept", "back"].includes(what)) location.reload();
    } catch (error) {
      trouble = /** @type {Error} */ (error).message;
    }
    draw();
  });
  return button;
}

let trouble = "";
let drawn = "";
/** @type {number | null} */ let compared = null;

/** @param {number | null} seconds */
function time(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds > 90 ? `about ${Math.round(seconds / 60)} minutes left` : `about ${Math.ceil(seconds)} seconds left`;
}

function corrections() {
  const tile = make("section", "", "tile");
  const totals = state.changes?.totals ?? { complete: 0, added: 0, removed: 0 };
  tile.append(make("h3", "1. Correct a few micrographs completely"));
  tile.append(make("p", `${totals.complete} complete · ${count(totals.added)} picks added · ${count(totals.removed)} removed`, "lead"));
  tile.append(make("p", "Two or three are enough to begin with. Of three or more, every third is kept out to measure the gain.", "note"));
  const row = make("div", "", "buttons");
  for (const index of state.list.advice.slice(0, 3)) {
    const button = make("button", `Correct ${state.list.names[index]}`);
    button.addEventListener("click", () => {
      show("look");
      go(index);
    });
    row.append(button);
  }
  tile.append(row);
  return tile;
}

/** @param {any} job */
function progress(job) {
  const tile = make("section", "", "tile");
  tile.append(make("h3", "2. Learn from these, and pick the rest again"));
  if (job?.state === "running") {
    const bar = /** @type {HTMLProgressElement} */ (make("progress"));
    bar.max = job.total || 1;
    if (job.total) bar.value = job.done || 0;
    bar.setAttribute("aria-label", job.step);
    tile.append(make("p", `${job.step}: ${job.done ?? 0} of ${job.total ?? "?"} ${time(job.left)}`, "lead"), bar);
    if (job.history?.length) tile.append(losses(job.history));
    tile.append(action("Cancel", "cancel"));
    return tile;
  }
  if (job?.state === "failed") tile.append(make("p", job.error, "message bad"));
  if (job?.state === "cancelled") tile.append(make("p", "Cancelled.", "note"));
  tile.append(make("p", "It goes on when you close this page, and takes a minute or more without a graphics card.", "note"));
  tile.append(state.project.run ? action("Learn from these", "learn", "main") : action("Pick all micrographs", "pick", "main"));
  return tile;
}

/** @param {{loss: number, validation?: number}[]} history */
function losses(history) {
  const table = make("table");
  const head = make("tr");
  head.append(make("th", "pass"), ...history.map((_, i) => make("th", String(i + 1))));
  const keys = Object.keys(history[0]); // a short training has no validation
  const rows = keys.map((key) => {
    const row = make("tr");
    row.append(make("td", key), ...history.map((epoch) => make("td", /** @type {any} */ (epoch)[key].toFixed(3))));
    return row;
  });
  table.append(head, ...rows);
  const box = make("div");
  const lines = [["pass", ...keys], ...history.map((epoch, i) => [i + 1, ...Object.values(epoch)])];
  box.append(table, download("loss.csv", blob("text/csv", csv(lines))));
  return box;
}

/** @param {any} job */
function result(job) {
  const tile = make("section", "", "tile");
  tile.append(make("h3", "3. Accept, or go back"));
  if (job?.state !== "done" || job.kind !== "learn") {
    tile.append(make("p", job?.current ? `You look at the picks of round ${job.current}.` : "You look at the first picks.", "note"));
    if (job?.current) tile.append(action("Go back to the picks before", "back"));
    return tile;
  }
  const table = make("table");
  const lines = [["", "before", "after"], ["picks in all", count(job.picksBefore), count(job.picksAfter)]];
  for (const rate of ["precision", "recall", "f1"])
    if (job.before) lines.push([rate === "f1" ? "F1" : rate, percent(job.before[rate]), percent(job.after[rate])]);
  lines.forEach((line, i) => {
    const row = make("tr");
    row.append(...line.map((text) => make(i ? "td" : "th", text)));
    table.append(row);
  });
  tile.append(table, download("gain.csv", blob("text/csv", csv(lines))));
  const held = job.held?.length;
  tile.append(make("p", held ? `Measured on ${held === 1 ? "1 corrected micrograph that was" : `${held} corrected micrographs that were`} kept out of learning.` : "With three complete micrographs or more, the gain is measured on every third.", "note"));
  const row = make("div", "", "buttons");
  if (job.current !== job.round) row.append(action("Accept the new picks", "accept", "main"));
  else row.append(make("p", "Accepted.", "lead"));
  if (job.current) row.append(action("Go back to the picks before", "back"));
  tile.append(row);
  return tile;
}

/**
 * Two pictures of one micrograph, with the picks before and after.
 * @param {any} job
 */
async function sideBySide(job) {
  const index = compared ?? Math.max(0, state.list.names.indexOf(job.held?.[0] ?? state.list.names[state.index]));
  const tile = make("section", "", "tile");
  const row = make("div", "", "tiles");
  const choice = /** @type {HTMLSelectElement} */ (make("select"));
  choice.setAttribute("aria-label", "Micrograph to compare");
  state.list.names.slice(0, 500).forEach((name, i) => choice.append(new Option(name, String(i), false, i === index)));
  choice.addEventListener("change", () => {
    compared = Number(choice.value);
    drawn = "";
    draw();
  });
  tile.append(make("h3", "Before and after"), choice, row);
  const [picks, one] = await Promise.all([get(`micrographs/${index}/comparison`), get(`micrographs/${index}`)]);
  const image = new Image();
  image.src = `api/micrographs/${index}/image?factor=${one.factor}&flat=60&smooth=1`;
  await image.decode();
  const ring = state.project.diameter && one.pixelSize ? state.project.diameter / one.pixelSize / 2 / one.factor : 8;
  for (const side of ["before", "after"]) {
    const canvas = /** @type {HTMLCanvasElement} */ (make("canvas"));
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.style.width = "100%";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${picks[side].length} picks ${side} learning`);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.drawImage(image, 0, 0);
    context.strokeStyle = "#fdca26";
    context.lineWidth = Math.max(2, image.width / 400);
    for (const [x, y] of picks[side]) {
      context.beginPath();
      context.arc(x / one.factor, y / one.factor, ring, 0, 2 * Math.PI);
      context.stroke();
    }
    const figure = make("figure");
    figure.style.margin = "0";
    const caption = make("div", "", "head");
    const picture = savePicture(`${state.list.names[index]}-${side}.png`, () => canvas);
    caption.append(make("figcaption", `${side}: ${picks[side].length} picks`, "note"), make("span", "", "space"), picture);
    figure.append(canvas, caption);
    row.append(figure);
  }
  return tile;
}

function draw() {
  if (document.body.dataset.view !== "learn" || !state.list || !state.project) return; // which a reload fetches first
  const job = state.changes?.job;
  const now = JSON.stringify([job, state.changes?.totals, trouble, state.list.advice.slice(0, 3), state.project.run]);
  if (now === drawn) return;
  drawn = now;
  const inner = make("div", "", "inner");
  const head = make("div", "", "head");
  head.append(make("h2", "Learn from your corrections"));
  const tiles = make("div", "", "tiles");
  tiles.append(corrections(), progress(job), result(job));
  inner.append(head, tiles);
  if (trouble) head.append(make("p", trouble, "saved bad"));
  trouble = "";
  element("learn").replaceChildren(inner);
  if (job?.state === "done" && job.kind === "learn")
    sideBySide(job).then((tile) => inner.append(tile)).catch((error) => say(error.message, true));
}

on("view learn", () => {
  drawn = "";
  draw();
});
on("changes", draw);
on("opened", draw);

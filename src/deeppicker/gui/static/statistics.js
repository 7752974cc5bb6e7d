// Plots of the whole run, drawn by the service, and how a run goes that is followed; all can be saved.
import { get } from "./api.js";
import { blob, canvasOf, csv, download, make, savePicture } from "./make.js";
import { count, element, on, say, state } from "./state.js";

const PAUSE = 10_000; // ms between two looks at a run that goes on
let drawn = "";
let when = 0;

/** @param {string} name @param {string} kind @param {string} content */
const link = (name, kind, content) => download(name, blob(kind, content));

function table() {
  const { list } = state;
  const columns = ["picks", "precision", "recall", "defocus", "ice", "complete", "edits"];
  const lines = list.names.map((name, i) => [name, ...columns.map((column) => /** @type {any} */ (list)[column][i] ?? "")]);
  return csv([["micrograph", ...columns], ...lines]);
}

/** How a run goes that is followed, or nothing. */
function live() {
  const { status, newest } = state.changes ?? {};
  const tile = make("section", "", "tile live-tile");
  tile.id = "live-tile";
  tile.hidden = status?.state !== "running";
  if (tile.hidden) return tile;
  const names = state.list.names;
  const facts = [
    ["newest micrograph", names[names.length - 1] ?? "–"],
    ["micrographs", count(status.micrographs)],
    ["an hour", count(Math.round(status.micrographs_per_hour ?? 0))],
    ["waiting", count(status.waiting ?? 0)],
    ["failed", count(status.failed ?? 0)],
    ["picks", count(status.picks ?? 0)],
    ["picks each", count(Math.round(status.picks_per_micrograph ?? 0))],
    ["each in the newest", newest.newest === null ? "–" : count(Math.round(newest.newest))],
  ];
  const row = make("dl", "", "numbers wide");
  for (const [name, value] of facts) {
    const part = make("div");
    part.append(make("dt", name), make("dd", value));
    row.append(part);
  }
  tile.append(make("h3", "Data collection"), row);
  if (newest.falling) {
    const alarm = make("p", `Picks fall off: ${Math.round(newest.newest)} in each of the newest micrographs, ${Math.round(newest.before)} before.`, "alarm");
    alarm.setAttribute("role", "alert");
    tile.append(alarm);
  }
  return tile;
}

/** @param {{title: string, svg: string, csv: string}} plot */
function tileOf({ title, svg, csv: numbers }) {
  const tile = make("section", "", "tile");
  const row = make("div", "", "head");
  row.append(make("h3", title));
  row.append(link(`${title}.svg`, "image/svg+xml", svg), savePicture(`${title}.png`, () => canvasOf(svg)), link(`${title}.csv`, "text/csv", numbers));
  tile.append(row, document.importNode(new DOMParser().parseFromString(svg, "image/svg+xml").documentElement, true));
  return tile;
}

const stamp = () => JSON.stringify([state.list.version, state.changes?.read, state.project.threshold, state.project.minContrast, state.project.maxContrast]);

async function show() {
  drawn = stamp();
  when = Date.now();
  const { plots } = await get("statistics");
  const inner = make("div", "", "inner");
  const head = make("div", "", "head");
  head.append(make("h2", "Statistics"), link(`${state.project.folder}.csv`, "text/csv", table()));
  const tiles = make("div", "", "tiles");
  tiles.append(...plots.map(tileOf));
  inner.append(head, live(), tiles);
  const old = element("statistics");
  for (const anchor of old.querySelectorAll("a[download]")) URL.revokeObjectURL(anchor.href);
  old.replaceChildren(inner);
}

const refresh = () => show().catch((error) => say(error.message, true));
on("view statistics", refresh);
on("changes", () => {
  if (document.body.dataset.view !== "statistics") return;
  element("live-tile")?.replaceWith(live());
  if (stamp() !== drawn && Date.now() - when > PAUSE) refresh();
});

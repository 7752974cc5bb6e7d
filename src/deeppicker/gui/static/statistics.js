// Plots of the whole run, drawn by the service; each can be kept as SVG, the table as CSV.
import { get } from "./api.js";
import { blob, download } from "./make.js";
import { element, on, say, state } from "./state.js";

/** @param {string} name @param {string} kind @param {string} content */
const link = (name, kind, content) => download(name, blob(kind, content));

function table() {
  const { list } = state;
  const columns = ["picks", "precision", "recall", "defocus", "ice", "complete", "edits"];
  const lines = list.names.map((name, i) =>
    [`"${name}"`, ...columns.map((column) => /** @type {any} */ (list)[column][i] ?? "")].join(","));
  return [["micrograph", ...columns].join(","), ...lines].join("\n") + "\n";
}

async function show() {
  const view = element("statistics");
  const inner = document.createElement("div");
  inner.className = "inner";
  const head = document.createElement("div");
  head.className = "head";
  const title = document.createElement("h2");
  title.textContent = "Statistics";
  head.append(title, link(`${state.project.folder}.csv`, "text/csv", table()));
  const tiles = document.createElement("div");
  tiles.className = "tiles";
  inner.append(head, tiles);
  view.replaceChildren(inner);
  for (const { title, svg } of (await get("statistics")).plots) {
    const tile = document.createElement("section");
    tile.className = "tile";
    const row = document.createElement("div");
    row.className = "head";
    const name = document.createElement("h3");
    name.textContent = title;
    const space = document.createElement("span");
    space.className = "space";
    row.append(name, space, link(`${title}.svg`, "image/svg+xml", svg));
    tile.append(row, document.importNode(new DOMParser().parseFromString(svg, "image/svg+xml").documentElement, true));
    tiles.append(tile);
  }
}

on("view statistics", () => show().catch((error) => say(error.message, true)));

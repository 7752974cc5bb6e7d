// The list of micrographs: only the rows that are seen exist, so 20,000 are as quick as ten.
import { count, element, on, percent, state, tell } from "./state.js";

const HEIGHT = 64;
const rows = element("rows");
const space = element("rows-space");
/** @type {number[]} numbers of the micrographs, as sorted and filtered */ let order = [];
/** @type {Map<number, HTMLElement>} */ const shown = new Map();
let asked = false;

/** @param {number} index */
export const picksOf = (index) => state.counts?.[index] ?? state.list.picks[index];

/** @returns {{[key: string]: (index: number) => number}} smaller comes first; what is not known comes last */
function keys() {
  const { list } = state;
  const last = (/** @type {number | null | undefined} */ value) => value ?? Infinity;
  return {
    order: (i) => i,
    newest: (i) => -i,
    precision: (i) => (list.failed[i] ? -1 : last(list.precision[i])),
    doubt: (i) => -(list.doubt[i] ?? -Infinity),
    picks: (i) => -picksOf(i),
    few: (i) => picksOf(i),
    defocus: (i) => last(list.defocus[i]),
    ice: (i) => -(list.ice[i] ?? -Infinity),
  };
}

/** Sort and filter anew. */
export function arrange() {
  const { list } = state;
  const text = element("filter").value.trim().toLowerCase();
  const only = element("only").value;
  const key = keys()[element("sort").value];
  /** @type {{[key: string]: (i: number) => boolean}} */
  const tests = {
    all: () => true,
    edited: (i) => list.edits[i] > 0,
    complete: (i) => list.complete[i],
    open: (i) => !list.complete[i] && !list.failed[i],
    failed: (i) => i in list.failed,
  };
  order = [];
  for (let i = 0; i < list.names.length; i++)
    if (tests[only](i) && (!text || list.names[i].toLowerCase().includes(text))) order.push(i);
  if (element("sort").value !== "order") {
    const values = order.map(key);
    const places = order.map((_, place) => place).sort((a, b) => values[a] - values[b] || a - b);
    order = places.map((place) => order[place]);
  }
  space.style.height = `${order.length * HEIGHT}px`;
  const complete = list.complete.filter(Boolean).length;
  const failed = Object.keys(list.failed).length;
  element("list-foot").textContent =
    `${count(order.length)} of ${count(list.names.length)} micrographs` +
    (complete ? ` · ${complete} complete` : "") + (failed ? ` · ${failed} failed` : "");
  fill(true);
}

/**
 * Draw the rows that are seen.
 * @param {boolean} [anew]
 */
function fill(anew = false) {
  const first = Math.max(0, Math.floor(rows.scrollTop / HEIGHT) - 3);
  const last = Math.min(order.length, Math.ceil((rows.scrollTop + rows.clientHeight) / HEIGHT) + 3);
  for (const [place, row] of shown)
    if (anew || place < first || place >= last) {
      row.remove();
      shown.delete(place);
    }
  for (let place = first; place < last; place++) {
    if (shown.has(place)) continue;
    const row = rowOf(order[place], place);
    shown.set(place, row);
    space.append(row);
  }
  const active = order.indexOf(state.index);
  if (shown.has(active)) rows.setAttribute("aria-activedescendant", `m${state.index}`);
  else rows.removeAttribute("aria-activedescendant");
}

/** @param {string} kind @param {string} text */
function span(kind, text) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
}

/** @param {number} index @param {number} place */
function rowOf(index, place) {
  const { list } = state;
  const row = document.createElement("div");
  row.className = "item";
  row.id = `m${index}`;
  row.setAttribute("role", "option");
  row.style.top = `${place * HEIGHT}px`;
  row.dataset.index = String(index);
  row.setAttribute("aria-selected", String(index === state.index));
  row.setAttribute("aria-setsize", String(order.length));
  row.setAttribute("aria-posinset", String(place + 1));
  const image = document.createElement("img");
  image.alt = "";
  image.decoding = "async";
  image.loading = "lazy";
  image.src = `api/micrographs/${index}/thumbnail`;
  const middle = document.createElement("div");
  const name = span("name", list.names[index]);
  name.title = list.names[index];
  name.style.display = "block";
  const failed = list.failed[index];
  const facts = [];
  if (list.precision[index] !== null) facts.push(`precision ${percent(list.precision[index])}`);
  if (list.defocus[index] !== null) facts.push(`${list.defocus[index]?.toFixed(1)} µm`);
  if ((list.ice[index] ?? 0) >= 0.05) facts.push(`ice ${percent(list.ice[index])}`);
  const about = failed ? span("about failed", "failed") : span("about", facts.join(" · ") || (picksOf(index) ? "" : "not picked yet"));
  about.title = failed ?? "";
  middle.style.minWidth = "0";
  middle.append(name, about);
  const right = span("count", failed ? "–" : count(picksOf(index)));
  const marks = (list.complete[index] ? "✓ " : "") + (list.edits[index] ? `✎ ${list.edits[index]}` : "");
  const note = span("marks", marks);
  if (marks) note.setAttribute("aria-label", (list.complete[index] ? "complete, " : "") + `${list.edits[index]} edits`);
  right.append(note);
  row.append(image, middle, right);
  return row;
}

/** @param {number} by */
export function step(by) {
  const place = order.indexOf(state.index);
  const next = place < 0 ? 0 : place + by;
  if (next >= 0 && next < order.length) go(order[next]);
}

/** @param {number} index */
export function go(index) {
  state.index = index;
  tell("go");
}

/** The next micrograph that the service proposes. */
export function nextUncertain() {
  const open = state.list.advice.filter((index) => !state.list.complete[index] && index !== state.index && !visited.has(index));
  if (open.length) go(open[0]);
  else visited.clear();
}
/** @type {Set<number>} */ const visited = new Set();

function reveal() {
  const place = order.indexOf(state.index);
  if (place < 0) return;
  const top = place * HEIGHT;
  if (top < rows.scrollTop) rows.scrollTop = top;
  else if (top + HEIGHT > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + HEIGHT - rows.clientHeight;
}

function refill() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    const { list } = state;
    for (const row of shown.values()) {
      const index = Number(row.dataset.index);
      const right = row.querySelector(".count");
      if (!right?.firstChild || list.failed[index]) continue;
      right.firstChild.textContent = count(picksOf(index));
      const marks = (list.complete[index] ? "✓ " : "") + (list.edits[index] ? `✎ ${list.edits[index]}` : "");
      if (right.lastChild) right.lastChild.textContent = marks;
    }
  });
}

rows.addEventListener("scroll", () => fill(), { passive: true });
rows.addEventListener("click", (/** @type {any} */ event) => {
  const row = event.target.closest(".item");
  if (row) go(Number(row.dataset.index));
});
rows.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
  if (!by) return;
  event.preventDefault();
  event.stopPropagation();
  const place = Math.min(order.length - 1, Math.max(0, order.indexOf(state.index) + by));
  if (order.length) go(order[place]);
});
new ResizeObserver(() => fill()).observe(rows);
for (const id of ["sort", "only"]) element(id).addEventListener("change", arrange);
element("filter").addEventListener("input", arrange);
on("list", refill);
on("counts", refill);
on("go", () => {
  visited.add(state.index);
  reveal();
  fill(true);
});

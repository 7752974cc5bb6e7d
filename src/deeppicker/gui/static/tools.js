// What the pointer does: move and zoom, add, remove and drag picks, eraser, lasso, measure.
import { edit, newName } from "./edits.js";
import { spotAt, spots } from "./picks.js";
import { element, say, state, tell } from "./state.js";
import { canvas, pan, redraw, setOverlay, toMicrograph, toScreen, view, zoom } from "./viewer.js";

/** @typedef {{x: number, y: number}} Point */

const TOOLS = ["look", "pick", "erase", "lasso", "measure"];
/** @type {Map<number, Point>} */ const pointers = new Map();
/** @type {{tool: string, from: Point, last: Point, moved: boolean, spot: import("./picks.js").Spot | null,
 *   line: Point[], hit: Set<string>} | null} */
let drag = null;
let eraser = 28; // page pixels
/** @type {Point} */ let at = { x: 0, y: 0 };
let spread = 0;

/** @param {string} tool */
export function choose(tool) {
  if (!TOOLS.includes(tool)) return;
  state.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]"))
    if (button instanceof HTMLButtonElement) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  element("stage").dataset.tool = tool;
  element("hover").hidden = true;
  if (element("message").querySelector("button")) say(""); // of a distance that was measured
  drag = null;
  setOverlay(tool === "erase" ? ring : null);
}

/** @param {number} by */
export function resizeEraser(by) {
  eraser = Math.min(240, Math.max(6, eraser * by));
  redraw();
}

/** @param {CanvasRenderingContext2D} context */
function ring(context) {
  for (const [colour, width] of /** @type {[string, number][]} */ ([["rgb(0 0 0 / 60%)", 4], ["#fff", 1.5]])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(at.x, at.y, eraser, 0, 2 * Math.PI);
    context.stroke();
  }
}

/**
 * The edits that remove a spot.
 * @param {import("./picks.js").Spot} spot @returns {import("./edits.js").Edit[]}
 */
function removal(spot) {
  if (spot.kind === "manual" || spot.kind === "removed") return [{ op: "drop", name: /** @type {string} */ (spot.name) }];
  return [{ op: "put", name: newName(), kind: "removed", x: spot.x, y: spot.y }];
}

/**
 * Add at a place, or remove what is there.
 * @param {Point} place in pixels of the micrograph
 */
export function toggle(place) {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  const spot = spotAt(place.x, place.y, 5 / view.scale);
  const inside = place.x > -0.5 && place.y > -0.5 && place.x < micrograph.width - 0.5 && place.y < micrograph.height - 0.5;
  if (spot && (spot.kind === "automatic" || spot.kind === "manual" || spot.kind === "removed")) edit(removal(spot));
  else if (spot) edit([{ op: "put", name: newName(), kind: "added", x: spot.x, y: spot.y }]);
  else if (inside) edit([{ op: "put", name: newName(), kind: "added", x: round(place.x), y: round(place.y) }]);
}

const round = (/** @type {number} */ value) => Math.round(10 * value) / 10;

/** @param {PointerEvent | WheelEvent} event @returns {Point} */
function place(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button > 1) return;
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  at = place(event);
  pointers.set(event.pointerId, at);
  if (pointers.size === 2) {
    drag = null; // two fingers move and zoom, whatever the tool
    spread = fingers().spread;
    return;
  }
  const tool = event.button === 1 || event.shiftKey ? "look" : state.tool;
  const here = toMicrograph(at.x, at.y);
  const spot = tool === "pick" ? spotAt(here.x, here.y, 5 / view.scale) : null;
  drag = { tool, from: at, last: at, moved: false, spot, line: [at], hit: new Set() };
  if (tool === "erase") rub();
});

function fingers() {
  const [a, b] = [...pointers.values()];
  return { spread: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

canvas.addEventListener("pointermove", (event) => {
  const now = place(event);
  if (pointers.size === 2 && pointers.has(event.pointerId)) {
    const before = fingers();
    pointers.set(event.pointerId, now);
    const after = fingers();
    pan(after.x - before.x, after.y - before.y);
    if (spread > 0 && after.spread > 0) zoom(after.spread / before.spread, after.x, after.y);
    return;
  }
  at = now;
  if (pointers.has(event.pointerId)) pointers.set(event.pointerId, now);
  if (!drag) {
    if (state.tool === "erase") redraw();
    hover(now);
    return;
  }
  if (Math.hypot(now.x - drag.from.x, now.y - drag.from.y) > 4) drag.moved = true;
  element("hover").hidden = true;
  if (drag.tool === "look") {
    element("stage").classList.add("dragging");
    pan(now.x - drag.last.x, now.y - drag.last.y);
  } else if (drag.tool === "pick") {
    if (drag.moved && drag.spot) setOverlay(ghost);
    else if (drag.moved) pan(now.x - drag.last.x, now.y - drag.last.y);
  } else if (drag.tool === "erase") rub();
  else {
    drag.line.push(now);
    setOverlay(drag.tool === "lasso" ? lasso : ruler);
  }
  drag.last = now;
});

for (const kind of ["pointerup", "pointercancel"])
  canvas.addEventListener(kind, (/** @type {any} */ event) => {
    pointers.delete(event.pointerId);
    element("stage").classList.remove("dragging");
    const ended = drag;
    drag = null;
    if (!ended || kind === "pointercancel") return;
    if (ended.tool === "pick") dropped(ended);
    if (ended.tool === "lasso") enclosed(ended.line);
    if (ended.tool === "measure") measured(ended.from, ended.last);
    else setOverlay(state.tool === "erase" ? ring : null);
    if (ended.tool === "erase") erased(ended.hit);
  });

/** @param {NonNullable<typeof drag>} ended */
function dropped(ended) {
  const { spot } = ended;
  if (!ended.moved) {
    toggle(toMicrograph(ended.from.x, ended.from.y));
    return;
  }
  if (!spot || (spot.kind !== "manual" && spot.kind !== "automatic")) return;
  const target = toMicrograph(ended.last.x, ended.last.y);
  const name = spot.kind === "manual" ? /** @type {string} */ (spot.name) : newName();
  const put = /** @type {import("./edits.js").Edit} */ ({ op: "put", name, kind: "added", x: round(target.x), y: round(target.y) });
  edit(spot.kind === "manual" ? [put] : [...removal(spot), put]);
}

/** @param {CanvasRenderingContext2D} context */
function ghost(context) {
  context.strokeStyle = "#35d0ff";
  context.lineWidth = 2;
  context.setLineDash([4, 4]);
  context.beginPath();
  context.arc(at.x, at.y, 14, 0, 2 * Math.PI);
  context.stroke();
  context.setLineDash([]);
}

function rub() {
  if (!drag) return;
  const here = toMicrograph(at.x, at.y);
  for (const spot of spots())
    if (spot.kind === "automatic" || spot.kind === "manual")
      if (Math.hypot(spot.x - here.x, spot.y - here.y) < eraser / view.scale) drag.hit.add(`${spot.x} ${spot.y}`);
  const hit = drag.hit;
  setOverlay((context) => {
    ring(context);
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    for (const key of hit) {
      const spot = toScreen(...two(key));
      context.strokeRect(spot.x - 4, spot.y - 4, 8, 8);
    }
  });
}

/** @param {string} key @returns {[number, number]} */
function two(key) {
  const [x, y] = key.split(" ").map(Number);
  return [x, y];
}

/** @param {Set<string>} hit */
function erased(hit) {
  edit([...spots()].filter((s) => (s.kind === "automatic" || s.kind === "manual") && hit.has(`${s.x} ${s.y}`)).flatMap(removal));
}

/** @param {CanvasRenderingContext2D} context */
function lasso(context) {
  if (!drag) return;
  context.beginPath();
  for (const point of drag.line) context.lineTo(point.x, point.y);
  context.closePath();
  context.fillStyle = "rgb(255 255 255 / 14%)";
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.fill();
  context.stroke();
}

/** @param {Point[]} line */
function enclosed(line) {
  if (line.length < 3) return;
  const path = new Path2D();
  for (const point of line) path.lineTo(point.x, point.y);
  const context = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));
  const inside = [...spots()].filter((spot) => {
    const screen = toScreen(spot.x, spot.y);
    return (spot.kind === "automatic" || spot.kind === "manual") && context.isPointInPath(path, screen.x, screen.y);
  });
  edit(inside.flatMap(removal));
  if (inside.length) say(`${inside.length} picks removed; Ctrl+Z brings them back.`);
}

/** @param {Point} a @param {Point} b */
function length(a, b) {
  const pixels = Math.hypot(a.x - b.x, a.y - b.y) / view.scale;
  return { pixels, angstrom: pixels * (state.micrograph?.pixelSize ?? NaN) };
}

/** @param {CanvasRenderingContext2D} context */
function ruler(context) {
  if (drag) line(context, drag.from, at);
}

/** @param {CanvasRenderingContext2D} context @param {Point} a @param {Point} b */
function line(context, a, b) {
  const { pixels, angstrom } = length(a, b);
  for (const [colour, width] of /** @type {[string, number][]} */ ([["rgb(0 0 0 / 60%)", 5], ["#fff", 2]])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(a.x, a.y);
    context.lineTo(b.x, b.y);
    context.stroke();
    context.beginPath();
    context.arc((a.x + b.x) / 2, (a.y + b.y) / 2, Math.hypot(a.x - b.x, a.y - b.y) / 2, 0, 2 * Math.PI);
    context.stroke();
  }
  context.font = "600 13px system-ui, sans-serif";
  context.fillStyle = "#fff";
  context.strokeStyle = "rgb(0 0 0 / 70%)";
  context.lineWidth = 4;
  const label = Number.isFinite(angstrom) ? `${angstrom.toFixed(0)} Å` : `${pixels.toFixed(0)} px`;
  context.strokeText(label, b.x + 10, b.y - 8);
  context.fillText(label, b.x + 10, b.y - 8);
}

/** @param {Point} a @param {Point} b */
function measured(a, b) {
  const { angstrom } = length(a, b);
  if (!(angstrom >= 1)) return setOverlay(null);
  const [from, to] = [toMicrograph(a.x, a.y), toMicrograph(b.x, b.y)];
  setOverlay((context) => line(context, toScreen(from.x, from.y), toScreen(to.x, to.y)));
  const message = element("message");
  const button = document.createElement("button");
  button.textContent = `Set the diameter to ${angstrom.toFixed(0)} Å`;
  button.addEventListener("click", () => {
    edit([{ op: "diameter", value: Math.round(angstrom) }]);
    say(`The diameter is ${angstrom.toFixed(0)} Å from now on, here and for learning.`);
    setOverlay(null);
    tell("diameter");
  });
  say("");
  message.classList.remove("bad");
  message.replaceChildren(button);
  message.hidden = false;
}

/** @param {Point} now */
function hover(now) {
  const here = toMicrograph(now.x, now.y);
  const spot = spotAt(here.x, here.y, 5 / view.scale);
  const label = element("hover");
  label.hidden = !spot;
  if (!spot) return;
  const contrast = spot.contrast === undefined ? "" : `, contrast ${spot.contrast.toFixed(2)}`;
  const score = typeof spot.score === "number" ? `score ${spot.score.toFixed(2)}${contrast}` : "";
  const kinds = { automatic: "", below: "below the threshold, ", manual: "picked by hand", removed: "removed by hand", rejected: `${spot.reason}, ` };
  label.textContent = `${kinds[spot.kind]}${score}` || "pick without score";
  label.style.left = `${Math.min(now.x + 16, canvas.clientWidth - label.offsetWidth - 8)}px`;
  label.style.top = `${now.y + 16}px`;
}

canvas.addEventListener("pointerleave", () => (element("hover").hidden = true));
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const now = place(event);
    const unit = event.deltaMode === 1 ? 20 : 1;
    if (state.tool === "erase" && event.altKey) resizeEraser(Math.exp(-0.002 * unit * event.deltaY));
    else if (event.shiftKey) pan(-unit * (event.deltaX || event.deltaY), 0);
    else zoom(Math.exp(-0.0018 * unit * event.deltaY * (event.ctrlKey ? 5 : 1)), now.x, now.y);
  },
  { passive: false },
);
for (const button of document.querySelectorAll("button[data-tool]"))
  button.addEventListener("click", () => choose(/** @type {HTMLElement} */ (button).dataset.tool ?? "look"));

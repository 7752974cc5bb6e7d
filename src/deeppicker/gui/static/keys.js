// Everything by keyboard, and the page that tells which key does what.
import { edit, redo, undo } from "./edits.js";
import { nextUncertain, step } from "./list.js";
import { spots } from "./picks.js";
import * as picture from "./picture.js";
import { element, state, tell } from "./state.js";
import { choose, resizeEraser, toggle } from "./tools.js";
import { fit, isFitted, moveTo, pan, toMicrograph, canvas, setOverlay, view, walk, walkFromStart, zoom } from "./viewer.js";

const PAN = 80;

/**
 * Turn a check box as a click would.
 * @param {string} id
 */
function turn(id) {
  element(id).click();
}

/** Walk on; begin at the first screen where another micrograph or zoom was walked before, lest some of it be missed. */
function walkOn() {
  if (!isFitted() && (walked.index !== state.index || walked.scale !== view.scale)) begin();
  else if (walk()) {
    walkAgain = true;
    step(1);
  }
}
let walked = { index: -1, scale: 0 };
let walkAgain = false;

function begin() {
  walkFromStart();
  walked = { index: state.index, scale: view.scale };
}

/** Begin with the next micrograph if it is one of a walk. */
export function continueWalk() {
  if (walkAgain) begin();
  walkAgain = false;
}

/**
 * Go to the next pick in reading order, so that a keyboard reaches each.
 * @param {number} by
 */
function nextPick(by) {
  const all = [...spots()].filter((spot) => spot.kind === "automatic" || spot.kind === "manual");
  if (!all.length) return;
  all.sort((a, b) => a.y - b.y || a.x - b.x);
  const now = all.findIndex((spot) => spot.x === aim?.x && spot.y === aim?.y);
  const spot = all[(now + by + all.length) % all.length];
  moveTo(spot.x, spot.y);
  target(spot);
}

/** @type {{x: number, y: number} | null} */ let aim = null;

/**
 * Show the cross at which Enter adds or removes.
 * @param {{x: number, y: number}} place
 */
function target(place) {
  aim = place;
  setOverlay((context) => {
    const [x, y] = [(place.x - view.x) * view.scale + canvas.clientWidth / 2, (place.y - view.y) * view.scale + canvas.clientHeight / 2];
    for (const [colour, width] of /** @type {[string, number][]} */ ([["rgb(0 0 0 / 60%)", 4], ["#fff", 2]])) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 5 * dx, y + 5 * dy);
        context.lineTo(x + 18 * dx, y + 18 * dy);
      }
      context.stroke();
    }
  });
}

function enter() {
  toggle(aim ?? toMicrograph(canvas.clientWidth / 2, canvas.clientHeight / 2));
}

/** @param {number} dx @param {number} dy */
function arrow(dx, dy) {
  pan(-PAN * dx, -PAN * dy);
  if (aim) target(toMicrograph(canvas.clientWidth / 2, canvas.clientHeight / 2));
}

/** @type {[string, string, () => void][]} */
const KEYS = [
  ["n", "next micrograph", () => step(1)],
  ["p", "previous micrograph", () => step(-1)],
  ["u", "next uncertain micrograph", nextUncertain],
  [" ", "walk through, screen by screen", walkOn],
  ["0", "whole micrograph", fit],
  ["+", "zoom in", () => zoom(1.4)],
  ["-", "zoom out", () => zoom(1 / 1.4)],
  ["ArrowLeft", "move", () => arrow(-1, 0)],
  ["ArrowRight", "move", () => arrow(1, 0)],
  ["ArrowUp", "move", () => arrow(0, -1)],
  ["ArrowDown", "move", () => arrow(0, 1)],
  ["v", "tool: move", () => choose("look")],
  ["a", "tool: add, remove, drag picks", () => choose("pick")],
  ["e", "tool: eraser", () => choose("erase")],
  ["[", "smaller eraser", () => resizeEraser(1 / 1.25)],
  ["]", "larger eraser", () => resizeEraser(1.25)],
  ["l", "tool: lasso", () => choose("lasso")],
  ["m", "tool: measure the diameter", () => choose("measure")],
  [".", "aim at the next pick", () => nextPick(1)],
  [",", "aim at the previous pick", () => nextPick(-1)],
  ["x", "aim at the middle", () => target(toMicrograph(canvas.clientWidth / 2, canvas.clientHeight / 2))],
  ["Enter", "add or remove at the aim", enter],
  ["h", "hide or show picks", () => turn("show-picks")],
  ["b", "candidates below the threshold", () => turn("show-below")],
  ["k", "contamination", () => turn("show-mask")],
  ["s", "score map", () => turn("show-scores")],
  ["r", "compare with the reference", () => state.project.reference && turn("show-reference")],
  ["i", "invert", () => turn("invert")],
  ["c", "complete: every particle is picked", () => !state.project.readOnly && turn("complete")],
  ["?", "this page", help],
];
const NAMES = /** @type {{[key: string]: string}} */ ({ " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" });

function help() {
  const list = element("help-keys");
  if (!list.children.length)
    for (const [key, text] of [...KEYS, ["Ctrl+Z", "undo"], ["Ctrl+Shift+Z", "redo"], ["Shift+drag", "move with any tool"]]) {
      const [term, description, sign] = ["dt", "dd", "kbd"].map((kind) => document.createElement(kind));
      sign.textContent = NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
      description.textContent = text;
      term.append(sign);
      list.append(term, description);
    }
  element("help").showModal();
  element("help").scrollTop = 0; // not where its button is, which gets the focus
}

/** @param {KeyboardEvent} event whether it belongs to what has the focus: a slider only wants what moves it */
function typing({ target, key }) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.matches("input[type=range]")) return /^(Arrow|Page|Home|End)/.test(key);
  return target.matches("input:not([type=checkbox]), select, textarea") || target.closest("dialog[open]") !== null;
}

// A list that was chosen from by pointer would take the next keys for names of its entries.
let pointed = false;
document.addEventListener("pointerdown", () => (pointed = true), true);
document.addEventListener("keydown", () => (pointed = false), true);
document.addEventListener("change", ({ target }) => {
  if (pointed && target instanceof HTMLSelectElement) target.blur();
});

document.addEventListener("keydown", (event) => {
  if (typing(event)) return;
  const modified = event.ctrlKey || event.metaKey;
  if (modified && event.key.toLowerCase() === "z") {
    event.preventDefault();
    if (event.shiftKey) redo();
    else undo();
  } else if (modified && event.key.toLowerCase() === "y") {
    event.preventDefault();
    redo();
  }
  if (modified || event.altKey || document.body.dataset.view !== "look") return;
  const onButton = event.target instanceof HTMLElement && event.target.closest("button, a, label, input");
  if (onButton && [" ", "Enter"].includes(event.key)) return;
  const wanted = event.key === "=" ? "+" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = KEYS.find(([key]) => key === wanted);
  if (!found) return;
  event.preventDefault();
  found[2]();
});

element("help-button").addEventListener("click", help);
element("next").addEventListener("click", () => step(1));
element("previous").addEventListener("click", () => step(-1));
element("fit").addEventListener("click", fit);
element("zoom-in").addEventListener("click", () => zoom(1.4));
element("zoom-out").addEventListener("click", () => zoom(1 / 1.4));

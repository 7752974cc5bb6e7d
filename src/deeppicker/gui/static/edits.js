// Corrections: shown at once, sent one batch after the other, kept in this browser until the service has them on disk.
import { get, post, Refused } from "./api.js";
import { element, on, say, state, tell } from "./state.js";

/**
 * @typedef {{op: "put", name: string, kind: "added" | "removed", x: number, y: number} | {op: "drop", name: string}
 *   | {op: "complete", value: boolean} | {op: "diameter", value: number}} Edit
 * @typedef {{forth: Edit, back: Edit}} Change and what undoes it
 * @typedef {{micrograph: string, edits: Edit[], by: string}} Batch
 * @typedef {{micrograph: string, back: Edit[], forth: Edit[]}} Step
 */

const by = Math.random().toString(36).slice(2, 10);
/** @type {Step[]} */ const done = [];
/** @type {Step[]} */ const undone = [];
/** @type {Batch[]} */ let queue = [];
let sending = false;
let wait = 500;

export const newName = () => `${by}-${Math.random().toString(36).slice(2, 10)}`;
export const idle = () => queue.length === 0 && !sending;
const store = (/** @type {string} */ page) => `deeppicker ${state.project.path} ${page}`;

/**
 * Do edits of the micrograph on screen, so that they can be undone.
 * @param {Edit[]} edits
 */
export function edit(edits) {
  const micrograph = state.micrograph;
  if (!micrograph || edits.length === 0) return;
  if (state.project.readOnly) {
    say("This application was started with --read-only.", true);
    return;
  }
  const back = edits.map((one) => inverse(micrograph, one)).reverse();
  done.push({ micrograph: micrograph.name, back, forth: edits });
  undone.length = 0;
  commit(micrograph.name, edits);
}

/**
 * Change marks of any micrographs, by their names.
 * @param {Map<string, Change[]>} batches
 */
export function editElsewhere(batches) {
  for (const [micrograph, changes] of batches) {
    const forth = changes.map((one) => one.forth);
    const back = changes.map((one) => one.back).reverse();
    done.push({ micrograph, back, forth });
    commit(micrograph, forth);
  }
  undone.length = 0;
}

/** @param {import("./state.js").Micrograph} micrograph @param {Edit} one @returns {Edit} */
function inverse(micrograph, one) {
  if (one.op === "complete") return { op: "complete", value: micrograph.complete };
  if (one.op === "diameter") return { op: "diameter", value: state.project.diameter ?? one.value };
  for (const kind of /** @type {("added" | "removed")[]} */ (["added", "removed"])) {
    const place = micrograph[kind][one.name];
    if (place) return { op: "put", name: one.name, kind, x: place[0], y: place[1] };
  }
  return { op: "drop", name: one.name };
}

/** @param {string} name @param {Edit[]} edits */
function commit(name, edits) {
  if (state.micrograph?.name === name) show(edits);
  queue.push({ micrograph: name, edits, by });
  keep();
  send();
  buttons();
}

/** @param {Edit[]} edits */
function show(edits) {
  const micrograph = /** @type {import("./state.js").Micrograph} */ (state.micrograph);
  const { x, y } = micrograph.candidates;
  for (const one of edits) {
    if (one.op === "complete") micrograph.complete = one.value;
    else if (one.op === "diameter") state.project.diameter = one.value;
    else {
      delete micrograph.added[one.name];
      delete micrograph.removed[one.name];
      if (one.op === "put") {
        micrograph[one.kind][one.name] = [one.x, one.y];
        // Until the service says which picks this hides: the very one that was meant.
        const at = x.findIndex((value, i) => value === one.x && y[i] === one.y);
        if (at >= 0) micrograph.hidden = [...micrograph.hidden, at];
      }
    }
  }
  tell("marks");
  tell("draw");
}

function keep() {
  try {
    if (queue.length) localStorage.setItem(store(by), JSON.stringify(queue));
    else localStorage.removeItem(store(by));
  } catch {
    // No room or no permission: then only this page has them.
  }
  status();
}

function status(/** @type {string} */ trouble = "") {
  const saved = element("saved");
  saved.classList.toggle("bad", trouble !== "");
  saved.textContent = trouble || (queue.length ? "Saving…" : done.length || undone.length ? "All changes saved" : "");
}

async function send() {
  if (sending) return;
  sending = true;
  while (queue.length) {
    const batch = queue[0];
    try {
      const answer = await post("edits", batch);
      queue.shift();
      wait = 500;
      keep();
      const rest = queue.some((other) => other.micrograph === batch.micrograph);
      if (state.micrograph?.name === batch.micrograph && !rest) take(answer);
      noteInList(batch.micrograph, answer);
    } catch (error) {
      const known = error instanceof Refused;
      if (known && [400, 403, 404, 422].includes(error.status)) {
        queue.shift(); // will never be taken
        keep();
        say(error.message, true);
        continue;
      }
      status(known ? `Not saved: ${error.message}` : "Not saved: no connection; trying again");
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(10000, 2 * wait);
    }
  }
  sending = false;
}

/** @param {{added: any, removed: any, complete: boolean, hidden: number[]}} marks */
function take(marks) {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  micrograph.added = marks.added;
  micrograph.removed = marks.removed;
  micrograph.complete = marks.complete;
  micrograph.hidden = marks.hidden;
  tell("marks");
  tell("draw");
}

/** @param {string} name @param {any} marks */
function noteInList(name, marks) {
  const index = state.list.names.indexOf(name);
  if (index < 0) return;
  state.list.edits[index] = Object.keys(marks.added).length + Object.keys(marks.removed).length;
  state.list.complete[index] = marks.complete;
  tell("list");
}

/** Take over what others did to the micrograph on screen. */
export async function refresh() {
  const micrograph = state.micrograph;
  if (!micrograph || !idle()) return;
  const fresh = await get(`micrographs/${micrograph.index}`);
  if (state.micrograph === micrograph && idle()) take(fresh);
}

/** @param {Step[]} from @param {Step[]} to @param {"back" | "forth"} way */
function step(from, to, way) {
  const last = from.pop();
  if (!last) return;
  to.push(last);
  commit(last.micrograph, last[way]);
  const index = state.list.names.indexOf(last.micrograph);
  if (index >= 0 && index !== state.index) {
    state.index = index;
    tell("go");
  }
}

export const undo = () => step(done, undone, "back");
export const redo = () => step(undone, done, "forth");

function buttons() {
  element("undo").disabled = done.length === 0;
  element("redo").disabled = undone.length === 0;
}

/** Send what pages could not that were closed; each holds a lock as long as it lives. */
export function resume() {
  status();
  if (!navigator.locks) return;
  for (const name of Object.keys(localStorage))
    if (name.startsWith(store(""))) navigator.locks.request(name, () => adopt(name));
  navigator.locks.request(store(by), () => new Promise(() => {}));
}

/** @param {string} name under which another page kept its edits */
function adopt(name) {
  try {
    queue.push(...JSON.parse(localStorage.getItem(name) ?? "[]"));
  } catch {
    return; // not ours
  }
  keep();
  localStorage.removeItem(name);
  send();
}

element("undo").addEventListener("click", undo);
element("redo").addEventListener("click", redo);
element("complete").addEventListener("change", (/** @type {any} */ event) =>
  edit([{ op: "complete", value: event.target.checked }]),
);
on("marks", buttons);
addEventListener("beforeunload", (event) => {
  if (!idle()) event.preventDefault();
});

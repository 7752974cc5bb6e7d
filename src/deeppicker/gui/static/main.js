// Starts the page, opens micrographs, follows what changes elsewhere.
import { get, Refused } from "./api.js";
import { idle, refresh, resume } from "./edits.js";
import { continueWalk } from "./keys.js";
import { arrange } from "./list.js";
import "./classes.js";
import "./gallery.js";
import "./learn.js";
import "./panel.js";
import * as picture from "./picture.js";
import { count, element, on, say, state, tell } from "./state.js";
import { choose, loadHistogram, same } from "./threshold.js";
import "./theme.js";
import { fit, isFitted } from "./viewer.js";
import "./statistics.js";
import { show } from "./views.js";

const INTERVAL = 2000;
const seen = { version: -1, edits: 0, read: -1 };

async function open() {
  const index = state.index;
  const { names, failed } = state.list;
  if (!names.length) {
    say("There are no micrographs yet. They appear here as they are picked.", false, true);
    return;
  }
  place();
  history.replaceState(null, "", `#${encodeURIComponent(names[index])}`);
  try {
    const micrograph = await get(`micrographs/${index}`);
    if (state.index !== index) return;
    const other = state.micrograph;
    state.micrograph = micrograph;
    if (!other || isFitted() || other.width !== micrograph.width || other.height !== micrograph.height) fit();
    else continueWalk();
    say(failed[index] ?? "", index in failed);
    tell("opened");
    tell("marks");
    tell("draw");
    await Promise.all([picture.open(), picture.openLayers()]);
    performance.mark("pictured");
  } catch (error) {
    if (state.index !== index) return;
    if (state.micrograph?.index !== index) leave();
    const known = error instanceof Refused;
    say(known ? error.message : "The picture cannot be had; is the micrograph still there?", true);
  }
}

/** Show no picture, lest it be taken for that of the micrograph that cannot be had. */
function leave() {
  state.micrograph = null;
  element("facts").textContent = "";
  tell("draw");
}

async function loadList() {
  state.list = await get("micrographs");
  listed();
}

function place() {
  const of = state.list.names.length;
  element("place").textContent = of ? `${count(state.index + 1)} / ${count(of)}` : "";
}

function listed() {
  seen.version = state.list.version;
  place();
  arrange();
}

async function follow() {
  try {
    if (!document.hidden) await look();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      warn("The application was started anew: open the address that it prints. Nothing is lost.");
    } else {
      warn("The application cannot be reached: it has ended, or the connection is broken. Corrections are kept here.");
      element("live").hidden = true;
    }
  } finally {
    setTimeout(follow, INTERVAL);
  }
}

/** @param {string} trouble that goes on, or nothing */
function warn(trouble) {
  const line = element("trouble");
  if (line.textContent !== trouble) line.textContent = trouble;
  line.hidden = !trouble;
}

async function look() {
  const now = await get(`changes?edits=${seen.edits}`);
  warn(now.trouble);
  if (now.path !== state.project.path) return location.reload(); // other picks were accepted
  const empty = state.list.names.length === 0;
  if (now.version !== seen.version || now.micrographs !== state.list.names.length) {
    await loadList();
    if (empty && state.list.names.length) await open();
  }
  if (now.edited.length) {
    await loadList();
    if (now.edited.includes(state.micrograph?.name)) await refresh();
  }
  seen.edits = now.edits;
  if (now.read !== seen.read) {
    seen.read = now.read;
    await loadHistogram();
    await loadList();
  }
  state.project.run = now.run;
  if (now.diameter !== state.project.diameter && idle()) {
    state.project.diameter = now.diameter;
    tell("diameter");
    tell("draw");
  }
  if (!same(now, state.project)) {
    take(now);
    choose(now);
  }
  const live = element("live");
  const going = now.status?.state === "running";
  live.hidden = !going;
  if (going) {
    const { micrographs, micrographs_per_hour: rate, picks_per_micrograph: picks } = now.status;
    const falling = now.newest.falling;
    live.classList.toggle("bad", falling);
    live.textContent = falling
      ? `Live: picks fall off, ${Math.round(now.newest.newest)} in the newest micrographs, ${Math.round(now.newest.before)} before`
      : `Live: ${count(micrographs)} micrographs, ${count(Math.round(rate))} an hour, ${Math.round(picks ?? 0)} picks each`;
  }
  state.changes = now;
  tell("changes");
}

/** @param {import("./state.js").Choice} choice of the run */
function take({ threshold, minContrast, maxContrast }) {
  Object.assign(state.project, { threshold, minContrast, maxContrast });
}

async function start() {
  [state.project, state.list] = await Promise.all([get("project"), get("micrographs")]);
  element("folder").textContent = state.project.folder;
  document.title = `${state.project.folder} – DeepPicker`;
  element("reference-row").hidden = !state.project.reference;
  element("keep").disabled = state.project.readOnly;
  listed();
  const named = state.list.names.indexOf(decodeURIComponent(location.hash.slice(1)));
  state.index = Math.max(0, named);
  on("go", open);
  tell("go");
  choose(state.project);
  resume();
  show(sessionStorage.getItem("view") ?? "look"); // as before a reload
  await follow();
}

start().catch((error) => say(error.message, true));

// Controls of what is shown and how, facts about the micrograph, export, picture.
import { get, newest, post } from "./api.js";
import { save } from "./make.js";
import { COLOURS, counted, RAMP } from "./picks.js";
import * as picture from "./picture.js";
import { asked, count, element, on, percent, say, state, tell } from "./state.js";
import { drawScaleBar, paint } from "./viewer.js";

const CHECKS = { "show-picks": "picks", "show-below": "below", "show-rejected": "rejected", "show-removed": "removed", "show-mask": "mask", "show-scores": "scores", "show-reference": "reference" };

for (const [id, key] of Object.entries(CHECKS))
  element(id).addEventListener("change", (/** @type {any} */ event) => {
    /** @type {any} */ (state.show)[key] = event.target.checked;
    picture.openLayers();
    if (key === "reference") compare();
    legend();
    tell("draw");
  });
for (const id of ["size", "opacity", "low", "high"])
  element(id).addEventListener("input", (/** @type {any} */ event) => {
    /** @type {any} */ (state.look)[id] = Number(event.target.value);
    if (id === "low" || id === "high") picture.contrast();
    tell("draw");
  });
for (const id of ["flat", "invert"])
  element(id).addEventListener("change", (/** @type {any} */ event) => {
    /** @type {any} */ (state.look)[id] = event.target.checked;
    if (id === "invert") picture.contrast();
    else picture.open();
  });
element("smooth").addEventListener("change", (/** @type {any} */ event) => {
  state.look.smooth = event.target.value;
  picture.open();
});

const agree = newest(
  (/** @type {{index: number, choice: string}} */ wish) => get(`micrographs/${wish.index}/agreement?${wish.choice}`),
  (answer, wish) => {
    if (wish.index !== state.micrograph?.index || !state.show.reference) return;
    state.agreement = answer;
    const [hits, extra, missed] = [answer.matched.length, answer.false.length, answer.missed.length];
    const note = element("agreement");
    note.hidden = false;
    note.textContent =
      `${hits} agree, ${extra} extra, ${missed} missed: precision ${percent(hits / (hits + extra || 1))}, ` +
      `recall ${percent(hits / (hits + missed || 1))}`;
    tell("draw");
  },
);

/** Ask how the picks agree with the reference, if that is to be seen. */
function compare() {
  if (state.show.reference && state.micrograph)
    agree({ index: state.micrograph.index, choice: asked() }).catch((error) => say(error.message, true));
  else {
    state.agreement = null;
    element("agreement").hidden = true;
  }
}

function legend() {
  const { show, project } = state;
  const box = element("legend");
  box.replaceChildren();
  const entry = (/** @type {string} */ colour, /** @type {string} */ text, round = true) => {
    const item = document.createElement("span");
    const dot = document.createElement("i");
    dot.style.borderColor = colour;
    if (!round) dot.style.borderRadius = "0";
    item.append(dot, text);
    box.append(item);
  };
  if (show.reference && project.reference) {
    entry(COLOURS.matched, "agree");
    entry(COLOURS.false, "extra (dotted)");
    entry(COLOURS.missed, "missed (dashed)");
    return;
  }
  const ramp = document.createElement("span");
  ramp.className = "ramp";
  for (const colour of RAMP) {
    const part = document.createElement("i");
    part.style.background = colour;
    ramp.append(part);
  }
  box.append(ramp, "score from 0 to 1");
  entry(COLOURS.manual, "by hand");
  if (show.below) entry(COLOURS.below, "below");
  if (show.rejected) entry(COLOURS.rejected, "rejected", false);
}

function facts() {
  const { micrograph, project, list } = state;
  if (!micrograph) return;
  const { automatic, manual } = counted();
  const parts = [`${count(micrograph.width)} × ${count(micrograph.height)} px`];
  if (micrograph.pixelSize) parts.push(`${+micrograph.pixelSize.toFixed(3)} Å/px`);
  if (project.diameter) parts.push(`particle ${project.diameter.toFixed(0)}\u00a0Å`);
  const defocus = list.defocus[micrograph.index];
  if (defocus !== null && defocus !== undefined) parts.push(`defocus ${defocus.toFixed(2)} µm`);
  const removed = Object.keys(micrograph.removed).length;
  parts.push(`${count(automatic)} automatic, ${manual} by hand, ${removed} removed`);
  element("facts").textContent = parts.join(" · ");
  element("complete").checked = micrograph.complete;
  element("complete").disabled = project.readOnly;
  element("canvas").setAttribute("aria-label", `Micrograph ${micrograph.name} with ${automatic + manual} picks`);
}

function link() {
  element("drawing").href = `api/micrographs/${state.index}/drawing?${asked()}`;
  const [what, format] = [element("export-what").value, element("export-format").value];
  element("download").href = `api/export?what=${what}&format=${format}`;
}
for (const id of ["export-what", "export-format"]) element(id).addEventListener("change", link);

element("keep").addEventListener("click", async () => {
  try {
    say(`Written to ${(await post("save", {})).folder}: autopick.star for RELION, and manual and removed picks apart.`);
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
  }
});

element("picture").addEventListener("click", () => {
  const micrograph = state.micrograph;
  if (!micrograph) return;
  const scale = Math.min(1, 2400 / Math.max(micrograph.width, micrograph.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [micrograph.width, micrograph.height].map((side) => Math.round(side * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const middle = { x: micrograph.width / 2 - 0.5, y: micrograph.height / 2 - 0.5, scale };
  paint(context, middle, canvas.width, canvas.height, 1);
  drawScaleBar(context, middle, canvas.width, canvas.height);
  save(`${micrograph.name}.png`, canvas);
});

for (const event of ["marks", "opened", "diameter", "counts"]) on(event, facts);
for (const event of ["opened", "counts"]) on(event, link);
for (const event of ["opened", "marks", "counts"]) on(event, () => state.show.reference && compare());
on("opened", () => {
  state.agreement = null;
  legend();
});

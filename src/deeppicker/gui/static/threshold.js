// The sliders on the histograms of scores and contrasts. The service counts; only the newest wish is asked.
import { get, newest, post } from "./api.js";
import { counted, RAMP } from "./picks.js";
import { asked, count, element, on, percent, say, state, tell } from "./state.js";

/** @typedef {import("./state.js").Choice} Choice */
const slider = element("threshold");
const ENDS = /** @type {const} */ ({ least: "minContrast", most: "maxContrast" });
/** @type {number[]} */ let scores = [];
/** @type {number[]} of the contrast, of all that reach the threshold */ let contrasts = [];
/** @type {[number, number] | null} between which contrasts are shown */ let limits = null;

const request = newest(
  (/** @type {string} */ choice) => get(`selection?${choice}`),
  (answer) => {
    state.counts = answer.counts;
    contrasts = answer.contrast;
    drawContrasts();
    element("everywhere").textContent = count(answer.picks);
    element("precision").textContent = percent(answer.precision);
    element("recall").textContent = percent(answer.recall);
    const all = state.list.names.length;
    element("threshold-note").textContent =
      answer.read < all
        ? `Scores of ${count(answer.read)} of ${count(all)} micrographs are read so far.`
        : "Expected, from the scores of all candidates.";
    tell("counts");
  },
);

/** @param {Choice} a @param {Choice} b */
export function same(a, b) {
  const near = (/** @type {number | null} */ x, /** @type {number | null} */ y) =>
    x === null || y === null ? x === y : Math.abs(x - y) <= 5e-4;
  return near(a.threshold, b.threshold) && near(a.minContrast, b.minContrast) && near(a.maxContrast, b.maxContrast);
}

/** @param {Choice} choice */
export function choose({ threshold, minContrast, maxContrast }) {
  state.choice = { threshold, minContrast, maxContrast };
  element("threshold-card").hidden = threshold === null;
  if (threshold === null) return;
  slider.value = String(threshold);
  place();
  show();
}

/** Put the ends of the contrast where the choice says; the end of a slider means no limit. */
function place() {
  element("contrast-card").hidden = !limits;
  if (!limits) return;
  for (const [id, key] of Object.entries(ENDS)) {
    [element(id).min, element(id).max] = limits.map(String);
    element(id).value = String(state.choice[key] ?? limits[id === "least" ? 0 : 1]);
  }
}

function show() {
  const { threshold, minContrast, maxContrast } = state.choice;
  element("threshold-value").textContent = /** @type {number} */ (threshold).toFixed(3).replace(/0$/, "");
  element("least-value").textContent = minContrast === null ? "any" : minContrast.toFixed(2);
  element("most-value").textContent = maxContrast === null ? "any" : maxContrast.toFixed(2);
  const changed = !same(state.choice, state.project);
  element("apply").disabled = !changed || state.project.readOnly || !state.project.run;
  element("reset").disabled = !changed;
  here();
  draw();
  request(asked());
  tell("draw");
}

function here() {
  const { automatic, manual } = counted();
  element("here").textContent = count(automatic + manual);
}

export async function loadHistogram() {
  const answer = await get("histogram");
  scores = answer.counts;
  limits = answer.contrast;
  place();
  draw();
  if (state.choice.threshold !== null) request(asked());
}

function draw() {
  const { threshold } = state.choice;
  bars("histogram", scores, (part) => ({
    inside: part >= (threshold ?? 0),
    colour: RAMP[Math.min(RAMP.length - 1, Math.floor(part * RAMP.length))],
  }), [threshold ?? 0]);
  drawContrasts();
}

function drawContrasts() {
  if (!limits) return;
  const [low, high] = limits;
  const ends = [state.choice.minContrast ?? -Infinity, state.choice.maxContrast ?? Infinity];
  const colour = getComputedStyle(document.body).getPropertyValue("--accent");
  bars("contrasts", contrasts, (part) => {
    const value = low + part * (high - low);
    return { inside: value >= ends[0] && value <= ends[1], colour };
  }, ends.filter(Number.isFinite).map((end) => (end - low) / (high - low)));
}

/**
 * Draw a histogram, and lines at some places of it.
 * @param {string} id @param {number[]} numbers
 * @param {(part: number) => {inside: boolean, colour: string}} style of the middle of a bar, from 0 to 1
 * @param {number[]} lines
 */
function bars(id, numbers, style, lines) {
  const canvas = element(id);
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const most = Math.log1p(Math.max(1, ...numbers));
  const step = (width - 16) / numbers.length;
  numbers.forEach((number, i) => {
    const { inside, colour } = style((i + 0.5) / numbers.length);
    const tall = (Math.log1p(number) / most) * (height - 4);
    context.globalAlpha = inside ? 1 : 0.28;
    context.fillStyle = colour;
    context.fillRect(8 + i * step, height - tall, Math.max(1, step - 1), tall);
  });
  context.globalAlpha = 1;
  context.fillStyle = getComputedStyle(document.body).color;
  for (const line of lines) context.fillRect(8 + line * (width - 16) - 0.75, 0, 1.5, height);
}

slider.addEventListener("input", () => {
  state.choice.threshold = Number(slider.value);
  show();
});
for (const [id, key] of Object.entries(ENDS))
  element(id).addEventListener("input", () => {
    const [low, high] = /** @type {[number, number]} */ (limits);
    const [least, most] = [element("least"), element("most")];
    if (Number(least.value) > Number(most.value)) element(id).value = (id === "least" ? most : least).value;
    const value = Number(element(id).value);
    state.choice[key] = value === (id === "least" ? low : high) ? null : value;
    show();
  });
element("reset").addEventListener("click", () => choose(state.project));
element("apply").addEventListener("click", async () => {
  element("apply").disabled = true;
  say("Writing all files…");
  const { threshold, minContrast, maxContrast } = state.choice;
  try {
    const answer = await post("threshold", { threshold, min_contrast: minContrast, max_contrast: maxContrast });
    Object.assign(state.project, answer);
    say("All coordinate files hold the picks of this selection now.");
    choose(answer);
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    show();
  }
});
on("marks", here);
on("theme", draw);
for (const id of ["histogram", "contrasts"]) new ResizeObserver(draw).observe(element(id));

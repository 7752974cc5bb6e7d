// The slider on the histogram of scores. The service counts; only the newest wish is asked.
import { get, newest, post } from "./api.js";
import { counted, RAMP } from "./picks.js";
import { count, element, on, percent, say, state, tell } from "./state.js";

const slider = element("threshold");
/** @type {number[]} */ let histogram = [];

const request = newest(
  (/** @type {number} */ value) => get(`selection?threshold=${value}`),
  (answer) => {
    state.counts = answer.counts;
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

/** @param {number | null} value */
export function setThreshold(value) {
  const able = value !== null;
  element("threshold-card").hidden = !able;
  state.threshold = value;
  if (!able) return;
  slider.value = String(value);
  show();
}

function show() {
  const value = /** @type {number} */ (state.threshold);
  element("threshold-value").textContent = value.toFixed(3).replace(/0$/, "");
  const changed = Math.abs(value - (state.project.threshold ?? 0)) > 5e-4;
  element("apply").disabled = !changed || state.project.readOnly || !state.project.run;
  element("reset").disabled = !changed;
  here();
  draw();
  request(value);
  tell("draw");
}

function here() {
  const { automatic, manual } = counted();
  element("here").textContent = count(automatic + manual);
}

export async function loadHistogram() {
  histogram = (await get("histogram")).counts;
  draw();
  if (state.threshold !== null) request(state.threshold);
}

function draw() {
  const canvas = element("histogram");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const most = Math.log1p(Math.max(1, ...histogram));
  const value = state.threshold ?? 0;
  const step = (width - 16) / histogram.length;
  histogram.forEach((number, i) => {
    const score = (i + 0.5) / histogram.length;
    const tall = (Math.log1p(number) / most) * (height - 4);
    context.globalAlpha = score >= value ? 1 : 0.28;
    context.fillStyle = RAMP[Math.min(RAMP.length - 1, Math.floor(score * RAMP.length))];
    context.fillRect(8 + i * step, height - tall, Math.max(1, step - 1), tall);
  });
  context.globalAlpha = 1;
  context.fillStyle = getComputedStyle(document.body).color;
  context.fillRect(8 + value * (width - 16) - 0.75, 0, 1.5, height);
}

slider.addEventListener("input", () => {
  state.threshold = Number(slider.value);
  show();
});
element("reset").addEventListener("click", () => setThreshold(state.project.threshold));
element("apply").addEventListener("click", async () => {
  element("apply").disabled = true;
  say("Writing all files…");
  try {
    const answer = await post("threshold", { threshold: state.threshold });
    state.project.threshold = answer.threshold;
    say("All coordinate files hold the picks above this threshold now.");
    setThreshold(answer.threshold);
  } catch (error) {
    say(/** @type {Error} */ (error).message, true);
    show();
  }
});
on("marks", here);
on("theme", draw);
new ResizeObserver(draw).observe(element("histogram"));

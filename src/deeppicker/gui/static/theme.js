// Light or dark: as the system has it, until one chooses.
import { element, tell } from "./state.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

function apply() {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? (dark.matches ? "dark" : "light");
  tell("theme");
  tell("draw");
}

dark.addEventListener("change", apply);
element("theme").addEventListener("click", () => {
  localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  apply();
});
apply();

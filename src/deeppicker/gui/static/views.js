// Which of the views is shown.
import { element, state, tell } from "./state.js";

/** @param {string} name */
export function show(name) {
  document.body.dataset.view = name;
  sessionStorage.setItem("view", name);
  for (const other of ["gallery", "classes", "statistics", "learn"]) element(other).hidden = other !== name;
  for (const button of document.querySelectorAll("[data-view]"))
    if (button instanceof HTMLButtonElement) {
      if (button.dataset.view === name) button.setAttribute("aria-current", "page");
      else button.removeAttribute("aria-current");
    }
  tell(`view ${name}`);
}

for (const button of document.querySelectorAll("nav [data-view]"))
  button.addEventListener("click", () => show(/** @type {HTMLElement} */ (button).dataset.view ?? "look"));
document.body.dataset.view = "look";
void state;

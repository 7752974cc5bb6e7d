// Makes elements of the page.

/** @param {string} kind @param {string} [text] @param {string} [look] its classes @returns {any} */
export function make(kind, text = "", look = "") {
  const item = document.createElement(kind);
  item.textContent = text;
  if (look) item.className = look;
  if (kind === "button") item.setAttribute("type", "button");
  return item;
}

/** @param {string} text @param {() => void} then @param {string} [look] @returns {HTMLButtonElement} */
export function button(text, then, look = "") {
  const item = make("button", text, look);
  item.addEventListener("click", then);
  return item;
}

/** A link that saves something. @param {string} name of the file @param {string} address @returns {HTMLAnchorElement} */
export function download(name, address) {
  const anchor = make("a", name.toUpperCase().slice(name.lastIndexOf(".") + 1), "button");
  anchor.download = name;
  anchor.href = address;
  anchor.setAttribute("aria-label", `Save ${name}`);
  return anchor;
}

/** @param {string} kind @param {string} content */
export const blob = (kind, content) => URL.createObjectURL(new Blob([content], { type: kind }));

/** The picture of one particle. @param {{index: number, x: number, y: number}} item @returns {HTMLImageElement} */
export function cropOf(item) {
  const image = make("img");
  image.loading = "lazy";
  image.alt = "";
  image.src = `api/micrographs/${item.index}/crop?x=${item.x}&y=${item.y}`;
  return image;
}

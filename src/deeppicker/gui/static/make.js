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

/**
 * A link that saves something.
 * @param {string} name of the file @param {string} address @returns {HTMLAnchorElement}
 */
export function download(name, address) {
  const anchor = make("a", name.toUpperCase().slice(name.lastIndexOf(".") + 1), "button");
  anchor.download = name;
  anchor.href = address;
  anchor.setAttribute("aria-label", `Save ${name}`);
  return anchor;
}

/** @param {string} kind @param {string} content */
export const blob = (kind, content) => URL.createObjectURL(new Blob([content], { type: kind }));

/**
 * A button that saves what is drawn.
 * @param {string} name of the file @param {() => HTMLCanvasElement | Promise<HTMLCanvasElement>} draw
 */
export function savePicture(name, draw) {
  const item = button("PNG", async () => save(name, await draw()));
  item.setAttribute("aria-label", `Save ${name}`);
  return item;
}

/** @param {string} name @param {HTMLCanvasElement} canvas */
export function save(name, canvas) {
  canvas.toBlob((content) => {
    if (!content) return;
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(content);
    anchor.download = name;
    anchor.click();
    URL.revokeObjectURL(anchor.href);
  });
}

/**
 * Draw an SVG text twice as large as it says, on white.
 * @param {string} svg @returns {Promise<HTMLCanvasElement>}
 */
export async function canvasOf(svg) {
  const image = new Image();
  const [width, height] = (svg.match(/viewBox="0 0 (\d+) (\d+)"/) ?? []).slice(1).map((side) => 2 * Number(side));
  image.src = blob("image/svg+xml", svg.replace("<svg ", `<svg width="${width}" height="${height}" `));
  await image.decode();
  const canvas = make("canvas");
  Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  URL.revokeObjectURL(image.src);
  return canvas;
}

/** @param {unknown[][]} lines a table, as CSV text */
export const csv = (lines) =>
  lines.map((line) => line.map((value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : value)).join(",") + "\n").join("");

/**
 * The picture of one particle.
 * @param {{index: number, x: number, y: number}} item @returns {HTMLImageElement}
 */
export function cropOf(item) {
  const image = make("img");
  image.loading = "lazy";
  image.alt = "";
  image.src = `api/micrographs/${item.index}/crop?x=${item.x}&y=${item.y}`;
  return image;
}

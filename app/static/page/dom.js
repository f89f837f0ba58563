/** Short words for what every module does to the document. */

/** The element of that id, which index.html has. */
export const byId = (id) => document.getElementById(id);

/** A new element with properties (not attributes) and children: texts or elements. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A button that is no form's. */
export const button = (text, onclick, className = "plain") =>
  make("button", { type: "button", textContent: text, className, onclick });

/** Lets a place take files that are dropped on it; `take` gets the first of them. */
export function takeDrops(place, take) {
  const mark = (event) => {
    event.preventDefault();
    place.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragenter", "dragover", "dragleave"]) place.addEventListener(kind, mark);
  place.addEventListener("drop", (event) => {
    mark(event);
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}

/** Keep the page where it is when a file is dropped beside the places that take it. */
export function refuseOtherDrops() {
  const refuse = (event) => {
    if (event.defaultPrevented || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  };
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, refuse);
}

/** 1536 -> "1.5 KB". */
export function bytes(count) {
  const units = ["bytes", "KB", "MB", "GB"];
  const power = Math.min(3, Math.floor(Math.log2(Math.max(1, count)) / 10));
  const value = count / 1024 ** power;
  return `${value >= 10 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** 75.2 -> "1 min 15 s". */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Four significant digits, without an exponent where none is needed. */
export const figure = (value) => (Number.isFinite(value) ? String(+value.toPrecision(4)) : "–");

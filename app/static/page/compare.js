/** Two pictures one over the other: a slider between them, zoom and pan for both. */

import { byId } from "./dom.js";

const MOST = 16;
const STEP = 1.5;
const PAN = 1 / 8; // of the frame, by an arrow key
const PANS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const view = { zoom: 1, x: 0, y: 0 };
const pointers = new Map();

/** Show the photo alone, by its URL. */
export function showBefore(url) {
  byId("before").src = url;
  setAfter(null);
  reset();
}

/** Show the picture that was made, over the photo; none for null. */
export function showAfter(url) {
  setAfter(url);
  byId("split").value = 50;
  update();
}

/** Let the comparison be used by pointer, touch, wheel and keyboard. */
export function startCompare() {
  const frame = byId("compare");
  byId("split").oninput = update;
  byId("zoom-in").onclick = () => zoomBy(STEP);
  byId("zoom-out").onclick = () => zoomBy(1 / STEP);
  byId("zoom-level").onclick = reset;
  byId("before").onload = () => {
    const { naturalWidth, naturalHeight } = byId("before");
    frame.style.setProperty("--ratio", naturalWidth / naturalHeight);
    byId("unshowable").hidden = true;
  };
  byId("before").onerror = () => (byId("unshowable").hidden = false);
  frame.addEventListener("wheel", onWheel, { passive: false });
  frame.ondblclick = (event) => (view.zoom > 1 ? reset() : zoomBy(3, event));
  frame.onpointerdown = onDown;
  frame.onpointermove = onMove;
  frame.onpointerup = frame.onpointercancel = (event) => pointers.delete(event.pointerId);
  document.addEventListener("keydown", onKey);
}

function setAfter(url) {
  const isThere = url !== null;
  if (isThere) byId("after").src = url;
  else byId("after").removeAttribute("src");
  for (const part of byId("compare").querySelectorAll(".after, .tag, #split")) {
    part.hidden = !isThere;
  }
}

function reset() {
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  update();
}

/** Zoom by a factor around a point of the screen, by default the middle. */
function zoomBy(factor, around = null) {
  const box = byId("compare").getBoundingClientRect();
  const x = around ? around.clientX - box.left : box.width / 2;
  const y = around ? around.clientY - box.top : box.height / 2;
  const zoom = Math.min(MOST, Math.max(1, view.zoom * factor));
  view.x = x - ((x - view.x) * zoom) / view.zoom;
  view.y = y - ((y - view.y) * zoom) / view.zoom;
  view.zoom = zoom;
  update();
}

function update() {
  const frame = byId("compare");
  const { width, height } = frame.getBoundingClientRect();
  view.x = Math.min(0, Math.max(width * (1 - view.zoom), view.x));
  view.y = Math.min(0, Math.max(height * (1 - view.zoom), view.y));
  const style = { "--zoom": view.zoom, "--x": `${view.x}px`, "--y": `${view.y}px` };
  style["--split"] = byId("split").value / 100;
  for (const [name, value] of Object.entries(style)) frame.style.setProperty(name, value);
  frame.classList.toggle("zoomed", view.zoom > 1);
  const level = view.zoom > 1 ? `${Math.round(view.zoom * 100)} %` : "fit";
  byId("zoom-level").textContent = level;
  byId("zoom-level").ariaLabel = view.zoom > 1 ? `${level}: fit the picture` : "Fit the picture";
}

function onWheel(event) {
  if (event.deltaY > 0 && view.zoom === 1) return; // the page scrolls
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY / 400), event);
}

function onDown(event) {
  if (event.target === byId("split") || event.button !== 0) return;
  pointers.set(event.pointerId, event);
  byId("compare").setPointerCapture(event.pointerId);
  if (view.zoom === 1) splitAt(event);
}

function onMove(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  pointers.set(event.pointerId, event);
  const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
  if (other) {
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoomBy(apart(event) / Math.max(1, apart(before)), other);
  } else if (view.zoom > 1) {
    view.x += event.clientX - before.clientX;
    view.y += event.clientY - before.clientY;
    update();
  } else {
    splitAt(event);
  }
}

function splitAt(event) {
  const box = byId("compare").getBoundingClientRect();
  byId("split").value = ((event.clientX - box.left) / box.width) * 100;
  update();
}

function onKey(event) {
  const isTyping = event.target.matches("input:not([type=range], [type=radio]), textarea, select");
  const isOthers = event.ctrlKey || event.metaKey || event.altKey;
  if (isTyping || isOthers || byId("compare").closest("[hidden]")) return;
  const act = { "+": () => zoomBy(STEP), "=": () => zoomBy(STEP), "-": () => zoomBy(1 / STEP), 0: reset };
  act[event.key]?.();
  const [right, down] = PANS[event.key] ?? [];
  if (right === undefined || view.zoom === 1 || !event.target.closest("#tools")) return;
  event.preventDefault();
  const { width, height } = byId("compare").getBoundingClientRect();
  view.x -= right * width * PAN;
  view.y -= down * height * PAN;
  update();
}

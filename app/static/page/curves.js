/** Losses over the steps: a small panel each. */

import { figure, make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 160;
const HEIGHT = 48;
const MOST_POINTS = 400;

/** Panels for figures that come by and by. */
export class Curves {
  constructor() {
    this.element = make("div", { className: "curves" });
    this.panels = new Map();
  }

  /** Add the figures of one step: values by name. */
  add(step, figures) {
    for (const [name, value] of Object.entries(figures)) {
      if (!this.panels.has(name)) this.panels.set(name, this.#panel(name));
      const panel = this.panels.get(name);
      panel.points.push([step, value]);
      if (panel.points.length > MOST_POINTS) {
        panel.points = panel.points.filter((_, k) => k % 2 === panel.points.length % 2);
      }
      panel.value.textContent = figure(value);
      panel.line.setAttribute("points", coordinates(panel.points));
    }
  }

  #panel(name) {
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    const line = drawing.appendChild(document.createElementNS(SVG, "polyline"));
    const value = make("span", { className: "told" });
    const caption = make("figcaption", { className: "row" }, name.replaceAll(/[_/]/g, " "), value);
    this.element.append(make("figure", {}, caption, drawing));
    return { points: [], line, value };
  }
}

/** [[step, value], ...] -> "x,y x,y ..." that fill the panel. */
function coordinates(points) {
  const finite = points.filter(([, value]) => Number.isFinite(value));
  const [first] = finite[0] ?? [0];
  const [last] = finite.at(-1) ?? [1];
  const values = finite.map(([, value]) => value);
  const low = Math.min(...values);
  const range = Math.max(...values) - low || 1;
  const x = (step) => ((step - first) / (last - first || 1)) * WIDTH;
  const y = (value) => 2 + (1 - (value - low) / range) * (HEIGHT - 4);
  return finite.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
}

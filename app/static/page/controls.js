/** The settings of what is chosen, and the fields they become. */

import { byId, make } from "./dom.js";

/** By the API's field: builds a control, which is a label with `fields()`, what is to be sent. */
const CONTROLS = {
  strength: () => slider("strength", "Strength", 1, (value) => `${Math.round(value * 100)} %`),
  keep_colors: () => check("keep_colors", "Keep the photo's colours"),
  scale_4: () => scale(4),
  scale_2: () => scale(2),
  detail: () => detail(),
  method: () =>
    select("method", "Cover with", [
      ["solid", "one colour"],
      ["pixelate", "large pixels (weak)"],
      ["blur", "a blur (weak)"],
    ]),
  passcode: () => passcode(false),
  needed_passcode: () => passcode(true),
  decoy: () => check("decoy", "With a wrong passcode, another plausible face"),
  format: () =>
    select("format", "File format", [
      ["", "as the photo"],
      ["jpeg", "JPEG"],
      ["png", "PNG"],
      ["webp", "WebP"],
      ["avif", "AVIF"],
    ]),
};

let shown = [];

/** Show the controls of those names, and the file format's. */
export function showControls(names) {
  shown = [...names, "format"].map((name) => CONTROLS[name]());
  byId("controls").replaceChildren(...shown.map((control) => control.element));
}

/** The fields that the controls say, by name; what is left at its default is not sent. */
export const controlFields = () =>
  Object.assign({}, ...shown.map((control) => control.fields()));

function slider(name, text, initial, tell) {
  const input = make("input", { type: "range", name, min: 0, max: 1, step: 0.05, value: initial });
  const told = make("span", { className: "told" }, tell(initial));
  input.oninput = () => (told.textContent = tell(input.value));
  const caption = make("span", { className: "row" }, text, told);
  const element = make("label", {}, caption, input);
  return { element, input, told, fields: () => ({ [name]: input.value }) };
}

/** Left alone it is the model's own; moved, it mixes the accurate and the sharp network. */
function detail() {
  const tell = (value) => (Number(value) === 0 ? "true" : `${Math.round(value * 100)} % sharp`);
  const control = slider("detail", "Detail", 0, tell);
  control.told.textContent = "the model's own";
  let moved = false;
  control.input.addEventListener("input", () => (moved = true));
  return { ...control, fields: () => (moved ? { detail: control.input.value } : {}) };
}

function check(name, text) {
  const input = make("input", { type: "checkbox", name });
  const element = make("label", { className: "check" }, input, ` ${text}`);
  return { element, fields: () => (input.checked ? { [name]: "true" } : {}) };
}

function select(name, text, options) {
  const input = make("select", { name }, ...options.map(([value, label]) => new Option(label, value)));
  const element = make("label", {}, text, input);
  return { element, fields: () => (input.value ? { [name]: input.value } : {}) };
}

const scale = (most) =>
  select("scale", "Scale", [4, 3, 2].filter((s) => s <= most).map((s) => [String(s), `× ${s}`]));

function passcode(required) {
  const input = make("input", {
    type: "password",
    name: "passcode",
    required,
    maxLength: 1024,
    autocomplete: "off",
  });
  const hint = required
    ? "the faces come back by it alone"
    : "brings the faces back; without one they are gone for good";
  const element = make("label", {}, "Passcode", input, make("small", {}, hint));
  return { element, fields: () => (input.value ? { passcode: input.value } : {}) };
}

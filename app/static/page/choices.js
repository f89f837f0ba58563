/** What can be done, as tiles: one for each model, and those for faces that need none. */

import { byId, make } from "./dom.js";
import { THUMBNAILS } from "./thumbnails.js";

const GROUPS = [
  ["stylize", "Paint"],
  ["upscale", "Enlarge"],
  ["translate", "Translate"],
  ["anonymize", "Faces"],
];

let picked = null; // by hand: models that are loaded later do not change it
let chosen = null; // what onChoose was told last

/** Build the tiles from GET /v1/models, keeping what was chosen or set; `onChoose` gets a choice
 * when it is another one: {id, name, label, note, path, fields, controls}. */
export function showChoices(models, onChoose) {
  const form = byId("wish");
  form.oninput = () => (picked = form.elements.choice.value);
  const choices = [...models.map(choiceOf), ...WITHOUT_MODEL];
  const groups = GROUPS.map(([task, title]) => {
    const tiles = choices.filter((choice) => choice.task === task).map((c) => tile(c, onChoose));
    return tiles.length ? group(title, tiles) : null;
  });
  const focused = byId("choices").querySelector(":focus")?.value;
  byId("choices").replaceChildren(...groups.filter(Boolean));
  const radios = [...byId("choices").querySelectorAll("input")];
  const input = radios.find((radio) => radio.value === picked) ?? radios[0];
  input.checked = true;
  radios.find((radio) => radio.value === focused)?.focus();
  if (input.value !== chosen) input.dispatchEvent(new Event("change"));
}

/** Their ids are no model's, whose names begin with a letter or a digit. */
const WITHOUT_MODEL = [
  {
    id: "#cover",
    name: "cover",
    label: "cover",
    note: "",
    thumbnail: "cover",
    task: "anonymize",
    path: "v1/anonymize",
    fields: {},
    controls: ["method", "passcode"],
  },
  {
    id: "#restore",
    name: "restore",
    label: "bring back",
    note: "",
    thumbnail: "restore",
    task: "anonymize",
    path: "v1/restore",
    fields: {},
    controls: ["needed_passcode", "decoy"],
  },
];

const RESERVED = WITHOUT_MODEL.map(({ thumbnail }) => thumbnail);

function choiceOf(model) {
  const { name, task } = model;
  const of = (fields, controls) => ({ fields, controls });
  const { fields, controls } = {
    stylize: () => of({ style: name }, ["strength", "keep_colors"]),
    upscale: () => of({ model: name }, [`scale_${model.scale}`, "detail"]),
    translate: () => of({ model: name }, []),
    // The one that never sees a face has no way back.
    anonymize: () =>
      of({ model: name }, name === "face-surroundings" ? [] : ["needed_passcode"]),
  }[task]();
  const note = [model.task_note, model.licence && `Licence: ${model.licence}`];
  return {
    id: name,
    name,
    label: name,
    thumbnail: THUMBNAILS.has(name) && !RESERVED.includes(name) ? name : null,
    note: note.filter(Boolean).join("\n"),
    task,
    path: `v1/${task}`,
    fields,
    controls,
  };
}

function tile(choice, onChoose) {
  const input = make("input", { type: "radio", name: "choice", value: choice.id });
  input.className = "unseen";
  input.onchange = () => {
    chosen = choice.id;
    onChoose(choice);
  };
  const picture = choice.thumbnail
    ? make("img", { src: `page/thumbnails/${choice.thumbnail}.jpg`, alt: "", width: 96, height: 96 })
    : make("span", { className: "blank", textContent: choice.label[0], ariaHidden: "true" });
  const caption = make("span", { className: "caption" }, choice.label);
  return make("label", { className: "tile", title: choice.note }, input, picture, caption);
}

function group(title, tiles) {
  const grid = make("div", { className: "tiles" }, ...tiles);
  return make("fieldset", {}, make("legend", {}, title), grid);
}

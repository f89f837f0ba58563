/** The form that starts a training. */

import { postJson, Problem } from "./api.js";
import { byId } from "./dom.js";
import { guarded } from "./problems.js";

const FAMILIES = { paired: "pix2pix", unpaired: "cyclegan", style: "style" };
const DIRECTED = ["paired", "unpaired"];

let datasets = [];
let models = [];
let asked = { text: null, id: null }; // the request whose answer is due

/** Set the form up; `onJob` gets the job that was started. */
export function startJobForm(onJob) {
  byId("job-dataset").onchange = showFamily;
  byId("job-photos").onchange = showBases;
  byId("job-form").onsubmit = async (event) => {
    event.preventDefault();
    byId("job-send").disabled = true;
    try {
      const job = await guarded(byId("job-problem"), startJob);
      if (job) onJob(job);
    } finally {
      byId("job-send").disabled = false;
    }
  };
}

/** Heed what GET /v1/datasets answers; the newest is chosen. */
export function setDatasets(list) {
  const newest = list.at(-1)?.id;
  const isNew = newest !== undefined && !datasets.some(({ id }) => id === newest);
  datasets = list;
  const options = datasets.map(({ id, name, kind }) => new Option(`${name} (${kind})`, id));
  const before = byId("job-dataset").value;
  byId("job-dataset").replaceChildren(...options);
  const isKept = !isNew && datasets.some(({ id }) => id === before);
  byId("job-dataset").value = isKept ? before : (newest ?? "");
  byId("job-send").disabled = datasets.length === 0;
  byId("job-send").textContent = datasets.length ? "Start" : "Upload data first";
  if (!isKept) showFamily();
}

/** Heed what GET /v1/models answers; what is chosen stays. */
export function setBases(list) {
  models = list;
  showBases();
}

const chosen = () => datasets.find(({ id }) => id === byId("job-dataset").value);
const kind = () => chosen()?.kind;
const family = () => FAMILIES[kind()] ?? byId("job-photos").value; // photos teach two things

function showFamily() {
  showBases();
  byId("job-photos-label").hidden = kind() !== "highres";
  byId("job-direction-label").hidden = !DIRECTED.includes(kind());
  // Not the base's, whose next version would take its place: data have names that models may have.
  byId("job-name").value = chosen()?.name ?? "";
}

function showBases() {
  const before = byId("job-base").value;
  const isGrey = kind() === "highres" && family() === "pix2pix";
  const names = models
    .filter((model) => model.family === family() && (model.channels_in === 1) === isGrey)
    .map(({ name }) => name);
  const options = names.map((name) => new Option(name, name));
  byId("job-base").replaceChildren(new Option("nothing", ""), ...options);
  byId("job-base").value = names.includes(before) ? before : "";
}

/** Ask for the training. Where the answer to that is lost, asking again gives the same training. */
async function startJob() {
  const body = request();
  const text = JSON.stringify(body);
  if (text !== asked.text) asked = { text, id: crypto.getRandomValues(new Uint32Array(4)).join("-") };
  const job = await postJson("v1/training-jobs", body, { "Idempotency-Key": asked.id });
  asked = { text: null, id: null };
  return job;
}

/** What the form says, as POST /v1/training-jobs takes it; throws Problem. */
function request() {
  const text = byId("job-hyperparameters").value.trim();
  const amount = Number(byId("job-amount").value);
  const unit = byId("job-unit").value;
  return {
    family: family(),
    dataset: byId("job-dataset").value,
    name: byId("job-name").value,
    base: byId("job-base").value || null,
    direction: DIRECTED.includes(kind()) ? byId("job-direction").value : "AtoB",
    [unit]: unit === "steps" ? Math.round(amount) : amount,
    auto_promote: byId("job-promote").checked,
    hyperparameters: text ? parsed(text) : {},
  };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem({ code: "bad_json", detail: error.message });
  }
}

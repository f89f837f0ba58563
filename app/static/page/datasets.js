/** Training data: uploaded, looked at, deleted. */

import { checkFile, getJson, latest, send, showPicture, upload } from "./api.js";
import { button, byId, bytes, make, takeDrops } from "./dom.js";
import { guarded } from "./problems.js";

const PATH = "v1/datasets";
const listing = latest();
const showing = latest();

let file = null;
let onDatasets = () => {};

/** Set the form up; `onList` gets every list of datasets that comes. */
export function startDatasets(onList) {
  onDatasets = onList;
  const input = byId("dataset-file");
  input.onchange = () => {
    const [chosen] = input.files;
    input.value = ""; // the same file can be chosen again
    take(chosen);
  };
  takeDrops(byId("dataset-drop"), take);
  byId("dataset-form").onsubmit = (event) => {
    event.preventDefault();
    if (file) sendFile();
    else byId("dataset-file").focus();
  };
}

/** Ask for the list and show it. */
export async function openDatasets() {
  await guarded(byId("datasets-problem"), async () => {
    showList(await getJson(PATH, listing()));
  });
}

/** Show none, and give up what is asked for. */
export function forgetDatasets() {
  listing();
  showing();
  byId("dataset-shown").hidden = true;
  byId("dataset-problem").replaceChildren();
  showList([]);
}

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  byId("dataset-drop").textContent = `${file.name}, ${bytes(file.size)}`;
  byId("dataset-name").value ||= nameOf(file.name);
}

/** "My Photos (2).zip" -> "my-photos-2", which the service takes for a name. */
function nameOf(filename) {
  const plain = filename.replace(/\.zip$/i, "").toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return plain.replace(/^-+|-+$/g, "").slice(0, 64);
}

async function sendFile() {
  const sent = file; // another one may be chosen meanwhile
  const form = new FormData();
  form.append("name", byId("dataset-name").value);
  form.append("kind", byId("dataset-kind").value);
  form.append("file", sent);
  const progress = byId("dataset-progress");
  const sending = byId("dataset-send");
  progress.hidden = false;
  sending.disabled = true;
  let dataset;
  try {
    dataset = await guarded(byId("dataset-problem"), async () => {
      await checkFile(sent, (await getJson("v1/limits")).max_dataset_bytes);
      return upload(PATH, form, (share) => {
        progress.value = share;
        if (share === 1) progress.removeAttribute("value"); // every picture is looked at
      });
    });
  } finally {
    progress.hidden = true;
    sending.disabled = false;
  }
  if (!dataset) return;
  if (file === sent) {
    byId("dataset-form").reset();
    file = null;
    byId("dataset-drop").textContent = "Choose a zip, or drop it here";
  }
  await openDatasets();
  await show(dataset.id);
}

function showList(datasets) {
  const rows = datasets.toReversed().map((dataset) => {
    const count = Object.values(dataset.counts).reduce((sum, n) => sum + n, 0);
    const facts = make("small", {}, `${dataset.kind} · ${count} pictures · ${bytes(dataset.bytes)}`);
    const name = make("span", {}, dataset.name);
    const row = make("button", { type: "button", className: "row" }, name, facts);
    row.onclick = () => show(dataset.id);
    return row;
  });
  byId("datasets").replaceChildren(...rows);
  onDatasets(datasets);
}

async function show(id) {
  const signal = showing();
  await guarded(byId("dataset-problem"), async () => {
    const dataset = await getJson(`${PATH}/${id}`, signal);
    const picture = make("img", { alt: `Pictures of ${dataset.name}` });
    await showPicture(picture, `${PATH}/${id}/contact.png`, signal);
    showDataset(dataset, picture, signal);
  });
}

function showDataset(dataset, picture, signal) {
  const sheet = make("div", { className: "sheet", tabIndex: 0 }, picture);
  const counts = Object.entries(dataset.counts).map(([part, count]) => `${count} ${part}`);
  const { min, median, max } = dataset.sizes;
  const notes = [
    ...dataset.warnings,
    ...Object.entries(dataset.skipped).map(([name, why]) => `${name} is left out: ${why}`),
  ];
  byId("dataset-shown").replaceChildren(
    make("h3", {}, dataset.name),
    sheet,
    make("p", { className: "quiet" }, `${counts.join(" · ")} · sides ${min}, ${median}, ${max} px`),
    make("ul", { className: "notes" }, ...notes.map((note) => make("li", {}, note))),
    button("Delete these data", () => remove(dataset.id, signal)),
  );
  byId("dataset-shown").hidden = false;
}

async function remove(id, signal) {
  await guarded(byId("dataset-problem"), async () => {
    await send(`${PATH}/${id}`, { method: "DELETE" });
    if (!signal.aborted) byId("dataset-shown").hidden = true;
    showList(await getJson(PATH, listing()));
  });
}

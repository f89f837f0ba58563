/** The view of pictures: a photo, a wish, an answer. */

import { blobOf, checkFile, send } from "./api.js";
import { showChoices } from "./choices.js";
import { showAfter, showBefore, startCompare } from "./compare.js";
import { controlFields, showControls } from "./controls.js";
import { byId, bytes, duration } from "./dom.js";
import { showOutcome } from "./outcome.js";
import { choosePhoto, startPhoto, tellLimits } from "./photo.js";
import { guarded } from "./problems.js";

const EXTENSIONS = { jpeg: "jpg", tiff: "tif" };

let photo = null;
let choice = null;
let answer = null; // a File
let maxBytes = Infinity;
let shownNames = null;
let underWay = null; // an AbortController

/** Set the view up. */
export function startPictures() {
  startCompare();
  startPhoto(takePhoto);
  byId("other-photo").onclick = choosePhoto;
  byId("reuse").onclick = () => takePhoto(answer);
  byId("wish").onsubmit = (event) => {
    event.preventDefault();
    if (underWay) {
      underWay.abort();
      byId("status").textContent = "Stopped";
    } else run();
  };
}

/** Show what GET /v1/models answers. */
export function setModels(models) {
  const names = models.map((model) => model.name).join();
  if (names === shownNames) return; // settings that somebody made stay
  shownNames = names;
  showChoices(models, (chosen) => {
    choice = chosen;
    byId("choice-note").textContent = chosen.note;
    showControls(chosen.controls);
    showButton();
  });
}

/** Heed what GET /v1/limits answers. */
export function setLimits(limits) {
  maxBytes = limits.max_upload_bytes;
  tellLimits(limits);
}

function takePhoto(file) {
  underWay?.abort();
  photo = file;
  showBefore(changeUrl("before", file));
  setAnswer(null);
  byId("drop").hidden = true;
  byId("compare").hidden = byId("tools").hidden = false;
  byId("picture-problem").replaceChildren();
  byId("status").textContent = `${file.name}, ${bytes(file.size)}`;
  showButton();
}

async function run() {
  const place = byId("picture-problem");
  underWay = new AbortController();
  const { signal } = underWay;
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  const ticking = setInterval(() => showButton(seconds()), 200);
  showButton(0);
  byId("status").textContent = "Working…";
  try {
    await guarded(place, async () => {
      const { name, path } = choice; // another one may be chosen meanwhile
      const body = wish();
      await checkFile(photo, maxBytes);
      const response = await send(path, { method: "POST", body, signal });
      setAnswer(await fileOf(response, name));
      byId("compare").scrollIntoView({ block: "nearest" });
      showOutcome(response, seconds());
      const how = isShown(answer) ? "" : ", to be downloaded: it cannot be shown here";
      byId("status").textContent = `Done in ${duration(seconds())}${how}`;
    });
  } finally {
    clearInterval(ticking);
    underWay = null;
    if (place.firstChild) byId("status").textContent = "";
    showButton();
  }
}

/** The form that is sent: the photo, and what is to be made of it. */
function wish() {
  const fields = { ...choice.fields, ...controlFields() };
  if (!fields.format && photo.type === "image/tiff") fields.format = "png"; // browsers show no TIFF
  const form = new FormData();
  form.append("image", photo);
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return form;
}

async function fileOf(response, name) {
  const blob = await blobOf(response);
  const kind = blob.type.split("/")[1];
  const stem = photo.name.replace(/\.\w+$/, "") || "picture";
  return new File([blob], `${stem}-${name}.${EXTENSIONS[kind] ?? kind}`, { type: blob.type });
}

/** Whether browsers show pictures of the type that a file has. */
const isShown = ({ type }) => /^image\/(jpeg|png|webp|avif|gif)$/.test(type);

function setAnswer(file) {
  answer = file;
  byId("download").hidden = byId("reuse").hidden = file === null;
  if (file === null) {
    byId("outcome").hidden = true;
    return;
  }
  const url = changeUrl("after", file);
  byId("download").href = url;
  byId("download").download = file.name;
  showAfter(isShown(file) ? url : null);
}

function showButton(workingS = null) {
  const go = byId("go");
  go.disabled = photo === null || choice === null;
  go.formNoValidate = workingS !== null; // what is missing for the next is no reason not to stop
  go.classList.toggle("working", workingS !== null);
  byId("compare").classList.toggle("working", workingS !== null);
  go.ariaLabel = workingS === null ? null : "Stop"; // or each second would be read out
  if (workingS !== null) go.textContent = `Stop · ${workingS.toFixed(0)} s`;
  else go.textContent = photo ? "Make it" : "Choose a photo first";
}

const urls = new Map();

/** A URL for what stands in that place, whose former one is given up. */
function changeUrl(place, file) {
  if (urls.has(place)) URL.revokeObjectURL(urls.get(place));
  urls.set(place, URL.createObjectURL(file));
  return urls.get(place);
}

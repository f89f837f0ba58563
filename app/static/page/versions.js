/** The versions of a model side by side, and which of them serves. */

import { getJson, latest, postJson, send, showPicture } from "./api.js";
import { button, byId, figure, make } from "./dom.js";
import { guarded } from "./problems.js";

const showing = latest();

let onModels = () => {};
let changing = false;

/** Set the view up; `onChange` is called when another version serves. */
export function startVersions(onChange) {
  onModels = onChange;
  byId("versions-model").onchange = openVersions;
}

/** Say which models have versions to look at. */
export function setVersionedModels(names) {
  const select = byId("versions-model");
  if (names.join() === [...select.options].map(({ value }) => value).join()) return;
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(name)));
  select.value = names.includes(before) ? before : (names[0] ?? "");
  openVersions();
}

/** Ask anew for the versions of the chosen model, if the view is open. */
export function openVersions() {
  const name = byId("versions-model").value;
  if (name && !byId("training").hidden) showVersions(name);
}

/** Show none, and give up what is asked for. */
export function forgetVersions() {
  showing();
  byId("versions").replaceChildren();
}

/** Show the versions of one model, the newest first. */
export async function showVersions(name) {
  const select = byId("versions-model");
  if (![...select.options].some(({ value }) => value === name)) select.add(new Option(name));
  select.value = name;
  const signal = showing();
  await guarded(byId("versions-problem"), async () => {
    const versions = await getJson(`v1/models/${name}/versions`, signal).catch((problem) => {
      if (problem.code === "model_not_found") return []; // its last version was deleted
      throw problem;
    });
    const columns = versions.toReversed().map((version) => column(name, version, signal));
    const back = button("Take the last change back", () => rollBack(name));
    const group = { className: "versions", tabIndex: 0, role: "group", ariaLabel: "Side by side" };
    const hadFocus = byId("versions").contains(document.activeElement);
    if (versions.length) byId("versions").replaceChildren(make("div", group, ...columns), back);
    else byId("versions").replaceChildren(make("p", { className: "quiet", tabIndex: -1 }, "None."));
    if (hadFocus) byId("versions").firstChild.focus();
  });
}

function column(name, version, signal) {
  const label = `${name}@${version.version}`;
  const title = make("h3", {}, label);
  if (version.serving) title.append(" ", make("small", { className: "state serving" }, "serves"));
  const facts = factsOf(version).map(([term, text]) =>
    make("div", {}, make("dt", {}, term), make("dd", {}, text)),
  );
  const samples = make("img", { className: "samples", hidden: true, alt: `Samples of ${label}` });
  if (version.lineage.job) showSamples(samples, version.lineage.job, signal);
  const serve = button("Let it serve", () => promote(name, version.version), "primary");
  const remove = button("Delete", () => removeVersion(name, version.version));
  serve.ariaLabel = `Let ${label} serve`;
  remove.ariaLabel = `Delete ${label}`;
  serve.hidden = version.promoted && version.serving;
  remove.hidden = version.promoted || !version.lineage.job;
  const buttons = make("p", { className: "buttons" }, serve, remove);
  return make("article", {}, title, samples, make("dl", {}, ...facts), buttons);
}

/** What is known of a version, in words: [[term, text], ...]. */
function factsOf({ lineage, gate, metrics, sha256 }) {
  const facts = [];
  if (lineage.job) facts.push(["made from", lineage.base ?? "nothing"]);
  if (lineage.dataset) facts.push(["data", lineage.dataset]);
  if (gate) facts.push([gate.passed ? "no worse" : "not better", gate.reason]);
  for (const { title, rows } of metrics) {
    const [own] = Object.values(rows);
    const texts = Object.entries(own ?? {}).map(([column, value]) => `${column} ${figure(value)}`);
    facts.push([title, texts.join(", ")]);
  }
  facts.push(["weights", `${sha256.slice(0, 12)}…`]);
  return facts;
}

async function showSamples(image, job, signal) {
  const path = `v1/training-jobs/${job}/samples`;
  try {
    const { steps } = await getJson(path, signal);
    if (!steps.length) return;
    await showPicture(image, `${path}/${steps.at(-1)}.png`, signal);
    image.hidden = false;
  } catch {
    image.hidden = true; // another key's job, or one whose folder is gone
  }
}

async function change(name, work, remedies) {
  if (changing) return;
  changing = true; // a second click would take back one change more
  let done;
  try {
    done = await guarded(byId("versions-problem"), async () => [await work()], remedies);
  } finally {
    changing = false;
  }
  if (!done) return;
  if (byId("versions-model").value === name) await showVersions(name);
  onModels();
}

function promote(name, version, force = false) {
  const remedies = ({ code }) => {
    const isShown = byId("versions-model").value === name; // another may be looked at meanwhile
    if (code !== "gate_refused" || !isShown) return [];
    const anyway = `Let ${name}@${version} serve all the same`;
    return [button(anyway, () => promote(name, version, true))];
  };
  const promoting = () => postJson(`v1/models/${name}/promote`, { version, force });
  return change(name, promoting, remedies);
}

const rollBack = (name) =>
  change(name, async () => {
    try {
      return await postJson(`v1/models/${name}/rollback`);
    } catch (problem) {
      if (problem.code === "model_not_found") problem.code = "nothing_earlier";
      throw problem;
    }
  });

const removeVersion = (name, version) =>
  change(name, () => send(`v1/models/${name}/versions/${version}`, { method: "DELETE" }));

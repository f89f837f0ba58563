/** The list of trainings, and which of them is watched. */

import { getJson, latest } from "./api.js";
import { byId, make } from "./dom.js";
import { followJob } from "./job.js";
import { guarded } from "./problems.js";

const PATH = "v1/training-jobs";
const listing = latest();
const watching = latest();

let hooks = { onList: () => {}, onEnd: () => {} };
let watched = null; // an id

/** Set the list up: `onList` gets every list that comes, `onEnd` a watched job that has ended. */
export function startJobs(given) {
  hooks = given;
}

/** Ask for the list and show it; the newest is watched where none is yet. */
export async function openJobs() {
  await guarded(byId("jobs-problem"), async () => {
    showList(await getJson(`${PATH}?limit=20`, listing()));
  });
}

/** Show none, watch none, and give up what is asked for. */
export function forgetJobs() {
  listing();
  watching();
  watched = null;
  byId("job").replaceChildren();
  byId("jobs").replaceChildren();
  hooks.onList([]);
}

function showList(jobs) {
  const rows = jobs.map((job) => {
    const state = make("small", { className: `state ${job.state}` }, job.state);
    const row = make("button", { type: "button", className: "row" }, job.name, state);
    row.ariaPressed = String(job.id === watched);
    row.onclick = () => watchJob(job);
    return row;
  });
  const none = make("p", { className: "quiet" }, "None so far.");
  const hadFocus = byId("jobs").contains(document.activeElement);
  byId("jobs").replaceChildren(...(rows.length ? rows : [none]));
  if (hadFocus) rows.find((row) => row.ariaPressed === "true")?.focus();
  hooks.onList(jobs);
  if (jobs.length && watched === null) watchJob(jobs[0]);
}

/** Show a job, live, instead of the one that was watched. */
export async function watchJob(job) {
  const signal = watching();
  watched = job.id;
  openJobs();
  const hadEnded = job.finished_at !== null;
  const isFocused = byId("job").contains(document.activeElement);
  await guarded(byId("job"), async () => {
    const told = { again: watchJob, onState: openJobs, isFocused };
    const ended = await followJob(byId("job"), `${PATH}/${job.id}`, signal, told);
    if (!ended) return;
    openJobs();
    if (!hadEnded) hooks.onEnd(ended);
  });
}

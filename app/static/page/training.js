/** The view of trainings: data, jobs and versions, and what each tells the others. */

import { forgetDatasets, openDatasets, startDatasets } from "./datasets.js";
import { setBases, setDatasets, startJobForm } from "./job_form.js";
import { forgetJobs, openJobs, startJobs, watchJob } from "./jobs.js";
import {
  forgetVersions,
  openVersions,
  setVersionedModels,
  showVersions,
  startVersions,
} from "./versions.js";

let models = [];
let trained = []; // names that trainings published

/** Set the view up; `onModels` is called when another version serves. */
export function startTraining(onModels) {
  startDatasets(setDatasets);
  startJobForm(watchJob);
  startVersions(onModels);
  startJobs({
    onList: (jobs) => {
      const done = jobs.filter((job) => job.state === "succeeded");
      trained = [...new Set(done.map((job) => job.name))];
      tellNames();
    },
    onEnd: (job) => {
      if (job.published) showVersions(job.name);
      if (job.promoted) onModels();
    },
  });
}

/** Ask anew for all that is shown. */
export async function openTraining() {
  openVersions();
  await Promise.all([openDatasets(), openJobs()]);
}

/** Take away all that is shown, and ask no more for it: it was another key's. */
export function forgetTraining() {
  forgetDatasets();
  forgetJobs();
  forgetVersions();
}

/** Heed what GET /v1/models answers. */
export function setTrainableModels(served) {
  models = served;
  setBases(models);
  tellNames();
}

function tellNames() {
  setVersionedModels([...new Set([...models.map((model) => model.name), ...trained])].sort());
}

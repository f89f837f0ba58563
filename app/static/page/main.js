/** The start: which view is shown, and what both need to know of the service. */

import { getJson, latest, send } from "./api.js";
import { byId, refuseOtherDrops } from "./dom.js";
import { startKey } from "./key.js";
import { setLimits, setModels, startPictures } from "./pictures.js";
import { showProblem } from "./problems.js";
import { forgetTraining, openTraining, setTrainableModels, startTraining } from "./training.js";

const VIEWS = ["pictures", "training"];
const AGAIN_S = 2;
const starting = latest();
const listing = latest();

/** Ask for all that both views need; of what was asked for before, nothing is shown any more. */
async function refresh() {
  const signal = starting();
  const models = listing();
  try {
    setLimits(await getJson("v1/limits", signal));
    byId("picture-problem").replaceChildren();
    await askForModels(models);
  } catch (problem) {
    startAgain(problem, signal);
  }
}

/** Ask which models there are; until all are loaded, again and again. */
async function askForModels(signal) {
  const isReady = await send("readyz", { signal }).then(() => true, () => false);
  const models = await getJson("v1/models", signal);
  if (models.length || isReady) setModels(models);
  setTrainableModels(models);
  if (!isReady) setTimeout(() => refreshModels(signal), AGAIN_S * 1000);
}

const refreshModels = (signal) => askForModels(signal).catch((error) => startAgain(error, signal));

/** Show what went wrong, and begin anew where waiting may help. */
function startAgain(problem, signal) {
  if (problem.name === "AbortError") return;
  showProblem(byId("picture-problem"), problem);
  if (!problem.isPassing) return;
  const waitS = problem.retryAfterS ?? AGAIN_S;
  setTimeout(() => {
    if (signal.aborted) return;
    refresh();
    showView(); // what the other view asked for failed, too
  }, waitS * 1000);
}

function showView() {
  const view = VIEWS.find((name) => location.hash === `#${name}`) ?? VIEWS[0];
  for (const name of VIEWS) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.ariaCurrent = "page";
    else link.ariaCurrent = null;
  }
  if (view === "training") openTraining();
}

refuseOtherDrops();
startPictures();
startTraining(() => refreshModels(listing()));
startKey(() => {
  forgetTraining();
  refresh();
  showView();
});
window.addEventListener("hashchange", showView);
showView();
refresh();

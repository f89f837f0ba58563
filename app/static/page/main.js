/** The start: which view is shown, and what both need to know of the service. */

import { getJson, send } from "./api.js";
import { byId, refuseOtherDrops } from "./dom.js";
import { startKey } from "./key.js";
import { setLimits, setModels, startPictures } from "./pictures.js";
import { showProblem } from "./problems.js";
import { forgetTraining, openTraining, setTrainableModels, startTraining } from "./training.js";

const VIEWS = ["pictures", "training"];
const AGAIN_MS = 2000;

/** Ask which models there are; until all are loaded, again and again. */
async function refreshModels() {
  const models = await getJson("v1/models");
  if (models.length) setModels(models);
  setTrainableModels(models);
  const isReady = await send("readyz").then(() => true, () => false);
  if (!isReady) setTimeout(() => refreshModels().catch(showStartProblem), AGAIN_MS);
}

async function refresh() {
  try {
    setLimits(await getJson("v1/limits"));
    byId("picture-problem").replaceChildren();
    await refreshModels();
  } catch (problem) {
    showStartProblem(problem);
  }
}

function showStartProblem(problem) {
  showProblem(byId("picture-problem"), problem);
  if (!(problem.status < 500)) setTimeout(refresh, AGAIN_MS); // the service may start anew
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
startTraining(() => refreshModels().catch(showStartProblem));
startKey(() => {
  forgetTraining();
  refresh();
  showView();
});
window.addEventListener("hashchange", showView);
showView();
refresh();

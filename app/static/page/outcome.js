/** How an answer came about, from its headers: model, device, and what each stage took. */

import { byId, duration, make } from "./dom.js";

const STAGES = {
  decode: "reading",
  queue: "waiting",
  detect: "finding faces",
  open: "opening",
  forward: "network",
  encode: "writing",
  seal: "sealing",
};
const RESTORED = {
  exact: "The faces are back, to the bit.",
  approximate: "The hidden faces were lost; these are the network's best guess.",
  undisclosed: "These are the faces, or others: nobody is told which.",
};

/** "decode;dur=1.5, queue;dur=0.2" -> [["decode", 0.0015], ["queue", 0.0002]], in seconds. */
function stagesOf(header) {
  const entries = (header ?? "").matchAll(/([\w-]+);dur=([\d.]+)/g);
  return [...entries].map(([, stage, ms]) => [stage, Number(ms) / 1000]);
}

/** Show how a response came about that took `totalS` seconds, there and back. */
export function showOutcome(response, totalS) {
  const told = (name) => response.headers.get(name);
  const stages = stagesOf(told("Server-Timing"));
  const sum = stages.reduce((seconds, [, s]) => seconds + s, 0);
  stages.push(["way", Math.max(0, totalS - sum)]);
  const bar = make("div", { className: "stages", ariaHidden: "true" });
  const list = make("dl", { className: "legend", ariaLabel: "What each stage took" });
  for (const [stage, seconds] of stages) {
    const piece = make("span");
    piece.style.flexGrow = seconds;
    piece.dataset.stage = stage;
    bar.append(piece);
    const name = STAGES[stage] ?? (stage === "way" ? "on its way" : stage);
    const entry = make("div", {}, make("dt", {}, name), make("dd", {}, duration(seconds)));
    entry.dataset.stage = stage;
    list.append(entry);
  }
  const facts = [told("X-Model"), told("X-Compute")?.split(";").slice(0, 2).join(","), faces(told)];
  const line = make("p", { className: "quiet" }, facts.filter(Boolean).join(" · "));
  if (told("X-Weights-SHA256")) line.title = `weights ${told("X-Weights-SHA256")}`;
  byId("outcome").replaceChildren(bar, list, line);
  byId("outcome").hidden = false;
}

function faces(told) {
  if (told("X-Restored")) return RESTORED[told("X-Restored")];
  if (told("X-Faces") === null) return null;
  const count = Number(told("X-Faces"));
  const perhaps = Number(told("X-Faces-Uncertain"));
  const sealed = told("X-Sealed") === "true" ? ", sealed in the file" : "";
  return `${count} ${count === 1 ? "face" : "faces"}${perhaps ? `, ${perhaps} uncertain` : ""}${sealed}`;
}

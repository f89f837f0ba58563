/** One training, live: how far it is, its losses, samples, comparison and end. */

import { getJson, latest, postJson, showPicture } from "./api.js";
import { Curves } from "./curves.js";
import { button, duration, make } from "./dom.js";
import { follow } from "./events.js";
import { guarded, showProblem } from "./problems.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const PLACE_EVERY_MS = 5000;
const SAMPLE_EVERY_MS = 250; // those of a training that is under way come all at once

/** Show the job at `path` in `place` until it ends or `signal` aborts; resolves to the job as it
 * ended. `hooks.again` is called with a job that was told to go on, `hooks.onState` at a start;
 * `hooks.isFocused` says that the focus was on what stood there before. */
export async function followJob(place, path, signal, hooks) {
  const job = await getJson(path, signal);
  const parts = build(job, path, signal, hooks.again);
  place.replaceChildren(parts.element);
  if (hooks.isFocused && document.activeElement === document.body) parts.title.focus();
  let last = null;
  const asking = latest();
  // Events are told anew from the first: a state among them may be long over.
  const tellState = async () => {
    const asked = AbortSignal.any([signal, asking()]);
    const now = await getJson(path, asked).catch(() => null); // the next event tells
    if (!now || asked.aborted) return;
    job.position = now.position;
    parts.tell("state", now);
  };
  await follow(
    `${path}/events`,
    (kind, data) => {
      if (signal.aborted) return;
      if (kind === "state") {
        if (ENDED.includes(job.state)) return;
        hooks.onState();
        tellState();
        return;
      }
      if (kind === "end") {
        asking();
        last = data;
      }
      parts.tell(kind, data);
    },
    signal,
  );
  return last;
}

/** Tell the job's place in the queue again and again until `signal` aborts: no event does. */
async function followPlace(path, tell, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, PLACE_EVERY_MS));
    try {
      const { position } = await getJson(path, signal);
      if (!signal.aborted) tell(position);
    } catch (problem) {
      if (!problem.isPassing) return; // who follows the events is told
    }
  }
}

function build(job, path, signal, again) {
  const state = make("strong", { className: "state" });
  const progress = make("progress", { max: 1, value: 0, ariaLabel: "Progress" });
  const speed = make("p", { className: "quiet" });
  const curves = new Curves();
  const samples = new Samples(path, signal);
  const verdict = make("p", { className: "verdict" });
  const trouble = make("div", { role: "alert" });
  const act = (what) => guarded(trouble, () => postJson(`${path}/${what}`));
  const cancel = button("Cancel", () => act("cancel"));
  const resume = button("Go on", async () => {
    const resumed = await act("resume");
    if (resumed && !signal.aborted) again(resumed);
  });
  const title = make("h3", { tabIndex: -1 }, job.name, " ", state);
  const head = make("div", { className: "row" }, title, cancel, resume);
  const element = make(
    "div",
    { className: "job" },
    ...[head, progress, speed, trouble, curves.element, samples.element, verdict],
  );

  const queueing = latest();
  const showPlace = (place) => {
    job.position = place;
    state.textContent = place ? `queued, number ${place}` : "queued";
  };
  const showState = (name) => {
    const waiting = AbortSignal.any([signal, queueing()]);
    state.textContent = name;
    state.className = `state ${name}`;
    if (name === "queued") {
      showPlace(job.position);
      followPlace(path, showPlace, waiting);
    }
    const focused = document.activeElement;
    cancel.hidden = ENDED.includes(name);
    resume.hidden = !["failed", "cancelled"].includes(name);
    if (focused === cancel && cancel.hidden) title.focus();
  };
  const tells = {
    state: (data) => showState(data.state),
    progress: (data) => {
      progress.value = data.step / data.steps;
      const left = data.seconds_left > 0 ? `, ${duration(data.seconds_left)} left` : "";
      speed.textContent =
        `step ${data.step} of ${data.steps}, ${data.steps_per_s.toPrecision(2)} a second${left}`;
      curves.add(data.step, data.figures);
    },
    sample: (data) => samples.add(data.step),
    damaged: (data) => (speed.textContent = data.detail),
    verdict: (data) => {
      verdict.textContent = `${data.passed ? "No worse" : "Not better"}: ${data.reason}.`;
      verdict.classList.toggle("passed", data.passed);
    },
    published: (data) => verdict.append(` Published as ${data.model}.`),
    promoted: () => verdict.append(" It serves."),
    end: (data) => {
      showState(data.state);
      if (data.error) showProblem(trouble, { ...data.error, title: "The training failed." });
    },
  };
  showState(job.state);
  return { element, title, tell: (kind, data) => tells[kind]?.(data) };
}

/** The sample pictures of a job, the newest of them unless somebody looks at another. */
class Samples {
  constructor(path, signal) {
    this.path = path;
    this.signal = signal;
    this.asked = latest();
    this.due = null; // the timer of the newest
    this.steps = [];
    this.image = make("img", { className: "samples", alt: "" });
    this.caption = make("figcaption", { className: "quiet" });
    this.slider = make("input", { type: "range", min: 0, max: 0, ariaLabel: "Step of the samples" });
    this.slider.oninput = () => this.show();
    this.element = make("figure", { hidden: true }, this.image, this.slider, this.caption);
  }

  add(step) {
    const isNewest = Number(this.slider.value) === this.steps.length - 1 || !this.steps.length;
    this.steps.push(step);
    this.slider.max = this.steps.length - 1;
    this.slider.hidden = this.steps.length < 2;
    if (isNewest) {
      this.slider.value = this.slider.max;
      this.slider.ariaValueText = step;
      this.due ??= setTimeout(() => this.show(), SAMPLE_EVERY_MS);
    }
  }

  async show() {
    clearTimeout(this.due);
    this.due = null;
    const step = this.steps[Number(this.slider.value)];
    this.slider.ariaValueText = step;
    const signal = AbortSignal.any([this.signal, this.asked()]);
    try {
      await showPicture(this.image, `${this.path}/samples/${step}.png`, signal);
    } catch {
      return; // another one is asked for, or it is gone
    }
    this.image.alt = `Samples at step ${step}`;
    this.caption.textContent = `Samples at step ${step}: what goes in, what comes out, and the aim`;
    this.element.hidden = false;
  }
}

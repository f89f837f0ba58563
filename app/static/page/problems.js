/** What went wrong, in words for people who read no status codes. */

import { make } from "./dom.js";

/** By problem code: what is wrong, and what to do. Codes of docs/api.md, and the page's own. */
const WORDS = {
  // The photo
  missing_image: ["There is no picture in this file.", "It is empty; choose another one."],
  several_images: ["That is more than one picture.", "Send one at a time."],
  unsupported_image: [
    "This file is not a picture that can be read here.",
    "JPEG, PNG, WebP, AVIF, GIF and TIFF can. Save it as one of these and try again.",
  ],
  corrupt_image: [
    "This picture is damaged.",
    "It ends early or does not decode. Save it anew, or take another copy of it.",
  ],
  unusable_image: ["This picture cannot be used.", "Save it as a plain JPEG or PNG, and try again."],
  image_too_large: ["This picture is too large.", "Make it smaller, or choose a smaller scale."],
  upload_too_large: ["This file is too large.", "Save it smaller, or with more compression."],
  takes_too_long: ["This picture would take too long.", "Make it smaller and try again."],
  upload_timeout: ["The upload took too long.", "Try again over a faster connection."],
  unsupported_encoding: ["The upload was compressed on its way.", "Send it as it is."],
  bad_multipart: ["The upload arrived in pieces that do not fit.", "Try again."],
  // What was asked for
  bad_request: ["The service did not understand this request.", "Change it and try again."],
  invalid_parameter: ["One of the settings is not possible.", "Change it and try again."],
  wrong_task: ["This model does something else.", "Choose another one."],
  not_acceptable: ["The picture cannot be answered in that form.", "Choose another file format."],
  not_found: ["There is nothing at this address.", "The service may be an older one."],
  method_not_allowed: ["That cannot be done here.", "The service may be an older one."],
  // Faces
  no_face: ["No face was found in this picture.", "Choose one with a face of 20 pixels or more."],
  invalid_passcode: ["This passcode cannot be used.", "Take 1 to 1,024 characters."],
  wrong_passcode: ["The passcode is wrong.", "Take the one that the faces were hidden with."],
  no_seal: [
    "This picture carries no hidden faces.",
    "Use the file as it was downloaded: pictures that were edited or sent on often lose them.",
  ],
  damaged_seal: ["This picture was changed after its faces were hidden.", "Use the original file."],
  too_many_attempts: ["Too many wrong passcodes.", "Wait a moment and try again."],
  // Models and their versions
  model_not_found: ["There is no such model here.", "Choose another one."],
  unusable_model: ["This model cannot be used.", "Choose another version."],
  unknown_layout: ["This checkpoint is of an unknown kind.", "It cannot be served here."],
  invalid_checkpoint: ["This checkpoint is damaged.", "Take another copy of it."],
  model_protected: ["This version has to stay.", "It serves, or came with the service."],
  gate_refused: ["This version is worse than the one that serves.", "It can serve all the same."],
  name_taken: ["A model of that name belongs to somebody else.", "Choose another name."],
  // Trainings and their data
  invalid_dataset: ["These pictures cannot be trained on.", "See what was found, and pack them anew."],
  dataset_not_found: ["These training data are gone.", "Upload them again."],
  dataset_in_use: ["A training uses these data.", "Wait for its end, or cancel it."],
  training_error: ["The training could not go on.", "Change what is said below, and start anew."],
  invalid_recipe: ["This training contradicts itself.", "Change what is said below."],
  diverged_training: ["The training went astray.", "Start it anew with a lower learning rate."],
  missing_features: ["Weights that this needs are missing.", "The operator can add them."],
  job_not_found: ["There is no such training.", "It may be another key's."],
  job_conflict: ["The training is past that.", "Look at its state."],
  worker_died: ["The training needs more memory than there is.", "Take smaller crops or batches."],
  disk_full: ["The disk is full.", "When there is room again, let the training go on."],
  // Who asks
  unauthenticated: ["A key is needed.", "Give one with the button Key above."],
  scope_missing: ["This key is not for that.", "Ask the operator for one with this scope."],
  foreign_page: ["The service takes this from its own page alone.", "Open that, and do it there."],
  wrong_host: ["The service does not answer by this name.", "Open it as localhost or by its address."],
  // The service
  queue_full: ["Many pictures are waiting.", "Try again in a moment."],
  rate_limited: ["That is more than this key may ask for at a time.", "Wait a moment."],
  memory_full: ["Many large pictures are under way.", "Try again in a moment."],
  out_of_memory: ["The device ran out of memory.", "Try again later, or with a smaller picture."],
  busy: ["The service is busy.", "Try again in a moment."],
  not_ready: ["The service is not ready.", "Its models are being loaded. Try again in a moment."],
  keys_unavailable: ["The keys cannot be checked.", "The operator has to look after their file."],
  jobs_unavailable: ["The queue of trainings does not answer.", "Try again in a moment."],
  deadline_exceeded: ["The answer took too long.", "Try a smaller picture, or later."],
  storage_full: ["The service's disk is full.", "Nothing was kept. Its operator has to make room."],
  client_left: ["The connection was closed.", "Try again."],
  internal_error: ["Something went wrong in the service.", "Try again; its log says more."],
  // The page's own
  unreachable: ["The service does not answer.", "See whether it runs, and try again."],
  file_changed: ["This file is no longer the one that was chosen.", "Choose it again."],
  nothing_earlier: ["There is no earlier version to go back to.", ""],
  bad_json: ["The hyperparameters are not JSON.", "Correct or empty that field."],
};

/** Headline and advice for a problem; of an unknown code, in the service's own words. */
export function words(problem) {
  const [headline, advice] = WORDS[problem.code] ?? [problem.title ?? problem.code, ""];
  const wait = problem.retryAfterS ? `Best after ${problem.retryAfterS} s.` : "";
  return { headline, advice: [advice, wait].filter(Boolean).join(" "), detail: problem.detail };
}

/** Show a problem in `place`, with further elements such as a button; what is no Problem is ours
 * to mend, and thrown on. */
export function showProblem(place, problem, ...more) {
  if (typeof problem.code !== "string") throw problem;
  const { headline, advice, detail } = words(problem);
  const texts = [make("strong", {}, headline), make("span", {}, advice)];
  if (detail) texts.push(make("small", {}, detail));
  place.replaceChildren(make("div", { className: "problem" }, ...texts, ...more));
  place.firstChild.dataset.code = problem.code;
}

/** Do `work`; a problem is shown in `place`, which is emptied before, with the elements that
 * `remedies` gives for it. Resolves to what `work` does, or undefined. */
export async function guarded(place, work, remedies = () => []) {
  place.replaceChildren();
  try {
    return await work();
  } catch (problem) {
    if (problem.name !== "AbortError") showProblem(place, problem, ...remedies(problem));
    return undefined;
  }
}

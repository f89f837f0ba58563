/** Requests to the service. Every failure is a Problem, which problems.js puts into words. */

import { bytes } from "./dom.js";
import { askForKey, heldKey } from "./key.js";

/** An answer that is no success: RFC 9457's members, and seconds of Retry-After if it has any. */
export class Problem extends Error {
  constructor(members, retryAfterS = null) {
    super(members.title ?? members.code);
    this.code = members.code;
    this.title = members.title;
    this.detail = members.detail;
    this.status = members.status;
    this.verdict = members.verdict;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later, as the service may be busy, or start anew. */
  get isPassing() {
    return !(this.status < 500) || this.status === 429;
  }

  static async of(response) {
    const members = await response.json().catch(() => null);
    const fallback = { code: `http_${response.status}`, title: response.statusText };
    const known = typeof members?.code === "string" ? members : fallback;
    const retryAfterS = Number(response.headers.get("Retry-After")) || null;
    return new Problem({ ...known, status: response.status }, retryAfterS);
  }
}

/** Throw the Problem that a file has which cannot be sent. One of more than `maxBytes` would have
 * its connection closed before all is sent; for that, and for a file that is no longer the one that
 * was chosen, browsers give no other reason than for a service that is away. */
export async function checkFile(file, maxBytes) {
  if (file.size > maxBytes) {
    const detail = `It has ${bytes(file.size)}; the limit is ${bytes(maxBytes)}.`;
    throw new Problem({ code: "upload_too_large", detail });
  }
  await file.slice(0, 1).arrayBuffer().catch(() => {
    throw new Problem({ code: "file_changed" });
  });
}

/** What a fetch or the reading of an answer resolves to: either may break, and is a Problem then. */
async function reached(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", title: "No answer" });
  }
}

/** Send a request, with the key; resolves to a good response, asks for a key where one is needed.
 * Throws Problem, and AbortError where `options.signal` is aborted. */
export async function send(path, options = {}) {
  const key = heldKey();
  const headers = new Headers(options.headers);
  if (key) headers.set("X-API-Key", key);
  const response = await reached(fetch(path, { ...options, headers }));
  if (response.ok) return response;
  if (response.status === 401) {
    const isOther = heldKey() !== null && heldKey() !== key; // given meanwhile, to another request
    const why = key ? "The key that was used is not good." : "";
    if (isOther || (await askForKey(why))) return send(path, options);
  }
  const problem = await Problem.of(response);
  options.signal?.throwIfAborted();
  throw problem;
}

/** The bytes of a response. */
export const blobOf = (response) => reached(response.blob());

const jsonOf = (response) => reached(response.json());

/** What a GET answers. */
export const getJson = async (path, signal) => jsonOf(await send(path, { signal }));

/** What a POST with a JSON body, or none, answers. */
export async function postJson(path, body, headers = {}) {
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const options = { method: "POST", body: JSON.stringify(body), headers: { ...type, ...headers } };
  return jsonOf(await send(path, options));
}

/** Show a picture in an <img>, which could not ask for it itself, as it sends no key. It can be
 * saved and opened from there until `signal` tells that the next one is asked for. */
export async function showPicture(image, path, signal) {
  const url = URL.createObjectURL(await blobOf(await send(path, { signal })));
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  image.src = url;
}

/** For a place that shows one thing at a time: gives a signal for all that is asked for the next
 * thing, and aborts the one before, so that what was asked for last is shown, whenever it comes. */
export function latest() {
  let current = new AbortController();
  return () => {
    current.abort();
    current = new AbortController();
    return current.signal;
  };
}

/** POST a form and tell how much of it is sent (0..1); resolves to the JSON answered. */
export async function upload(path, form, onProgress) {
  const answered = new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
    request.open("POST", path);
    const key = heldKey();
    if (key) request.setRequestHeader("X-API-Key", key);
    request.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    request.onerror = reject;
    request.onload = () => {
      const headers = { "Retry-After": request.getResponseHeader("Retry-After") ?? "" };
      resolve(new Response(request.response, { status: request.status, headers }));
    };
    request.send(form);
  });
  const response = await reached(answered);
  if (!response.ok) throw await Problem.of(response);
  return jsonOf(response);
}

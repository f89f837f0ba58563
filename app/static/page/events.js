/** Server-sent events by fetch: EventSource cannot send a key. */

import { Problem, send } from "./api.js";

const AGAIN_MS = 1000;
const SILENT_MS = 45_000; // the service says something every 15 s

/** Call `onEvent(kind, data)` for all that happened and happens, until `end` or `signal` aborts.
 * A connection that breaks or falls silent is made anew after the last event, a refusal for the
 * time being is waited for. Throws Problem where that is no use. */
export async function follow(path, onEvent, signal) {
  let lastId = null;
  while (!signal.aborted) {
    const silence = new AbortController();
    let timer;
    const hear = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MS);
    };
    let waitMs = AGAIN_MS;
    try {
      hear();
      const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
      const either = AbortSignal.any([signal, silence.signal]);
      const response = await send(path, { headers, signal: either });
      for await (const event of parse(response.body, hear)) {
        if (event.id) lastId = event.id;
        onEvent(event.kind, JSON.parse(event.data));
        if (event.kind === "end") return;
      }
    } catch (error) {
      if (error instanceof Problem && !error.isPassing) throw error;
      if (error.retryAfterS) waitMs = error.retryAfterS * 1000;
    } finally {
      clearTimeout(timer);
      silence.abort(); // what came may have been no event, with more on its way
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** Yield the events of a stream of bytes: {id, kind, data}. Comments have no data. `onChunk` is
 * called whenever something comes. */
async function* parse(body, onChunk) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onChunk();
    text += value.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = { id: "", kind: "message", data: "" };
      for (const line of block.split("\n")) {
        const [, field, value] = /^(id|event|data): ?(.*)$/.exec(line) ?? [];
        if (field === "data") event.data += value;
        else if (field) event[field === "event" ? "kind" : field] = value;
      }
      if (event.data) yield event;
    }
  }
}

/** Server-sent events by fetch: EventSource cannot send a key. */

import { send } from "./api.js";

const AGAIN_MS = 1000;

/** Call `onEvent(kind, data)` for all that happened and happens, until `end` or `signal` aborts.
 * A broken connection is made anew after the last event. Throws Problem where that is no use. */
export async function follow(path, onEvent, signal) {
  let lastId = null;
  while (!signal.aborted) {
    try {
      const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
      const response = await send(path, { headers, signal });
      for await (const event of parse(response.body)) {
        if (event.id) lastId = event.id;
        onEvent(event.kind, JSON.parse(event.data));
        if (event.kind === "end") return;
      }
    } catch (error) {
      if (error.status < 500) throw error;
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** Yield the events of a stream of bytes: {id, kind, data}. Comments have no data. */
async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
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

/** The photo, however it comes: chosen, dropped or pasted. */

import { byId, bytes, takeDrops } from "./dom.js";

/** Call `take(file)` for each photo that comes. */
export function startPhoto(take) {
  const input = byId("photo-file");
  input.onchange = () => {
    const [file] = input.files;
    input.value = ""; // the same file can be chosen again
    if (file) take(file);
  };
  takeDrops(byId("pictures"), take);
  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    // A cell of a table, say, is copied as a text and as its picture.
    const isText = types.includes("text/plain") && event.target.matches("input, textarea");
    if (files.length && !isText && !byId("pictures").hidden) take(files[0]);
  });
}

/** Ask for a photo, as the browser does it. */
export const choosePhoto = () => byId("photo-file").click();

/** Say what can come, by GET /v1/limits. */
export function tellLimits(limits) {
  const megapixels = Math.round(limits.max_pixels / 1e6);
  const size = bytes(limits.max_upload_bytes);
  byId("photo-limits").textContent =
    `JPEG, PNG, WebP, AVIF, GIF or TIFF, up to ${size} and ${megapixels} megapixels`;
}

/** Which models have a thumbnail; `python -m benchmarks.thumbnails` writes them and this list. */

export const THUMBNAILS = new Set([
  "cover",
  "facades",
  "face-identity",
  "face-surroundings",
  "horse2zebra",
  "restore",
  "srgan-x4",
  "srresnet-x4",
  "starry-night",
  "udnie",
  "wave",
  "zebra2horse",
]);

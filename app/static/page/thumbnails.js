/** Which models have a thumbnail; `python -m benchmarks.thumbnails` writes them and this list. */

export const THUMBNAILS = new Set([
  "colorize",
  "composition-vii",
  "cover",
  "facades",
  "face-identity",
  "face-surroundings",
  "horse2zebra",
  "monet2photo",
  "photo2monet",
  "restore",
  "srgan-x4",
  "srresnet-x4",
  "starry-night",
  "the-scream",
  "udnie",
  "wave",
  "zebra2horse",
]);

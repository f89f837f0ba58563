/** The key that a service on a network asks for. It is held by this tab alone. */

import { byId } from "./dom.js";

const NAME = "anamorph-key";
let asking = null;

/** The key's text, or null. */
export const heldKey = () => sessionStorage.getItem(NAME);

/** Ask for a key, once for all who ask at a time; resolves to whether there is a new one. */
export function askForKey(why) {
  asking ??= openDialog(why).finally(() => (asking = null));
  return asking;
}

/** Let people look after the key; `onChange` is called when it is another one. */
export function startKey(onChange) {
  byId("key-open").onclick = async () => {
    const former = heldKey();
    await askForKey("Another key may do other things.");
    if (heldKey() !== former) onChange();
  };
  byId("key-open").hidden = heldKey() === null;
}

function openDialog(why) {
  const dialog = byId("key-dialog");
  byId("key-why").textContent = why;
  byId("key").value = "";
  dialog.returnValue = "";
  byId("key-forget").onclick = () => dialog.close("forget");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const text = byId("key").value.trim();
      const isNew = dialog.returnValue === "use" && text !== "";
      if (isNew) sessionStorage.setItem(NAME, text);
      if (dialog.returnValue === "forget") sessionStorage.removeItem(NAME);
      byId("key-open").hidden = false;
      resolve(isNew);
    };
  });
}

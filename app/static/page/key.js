/** The key that a service on a network asks for. It is held by this tab alone. */

import { byId } from "./dom.js";

const NAME = "anamorph-key";
const POSSIBLE = /^[\x21-\x7e]*$/; // what a header can carry
let asking = null;
let onOther = () => {};

/** The key's text, or null. */
export const heldKey = () => sessionStorage.getItem(NAME);

/** Ask for a key, once for all who ask at a time; resolves to whether there is a new one. */
export function askForKey(why) {
  asking ??= openDialog(why).finally(() => (asking = null));
  return asking;
}

/** Let people look after the key; `onChange` is called when it is another one, whoever asked. */
export function startKey(onChange) {
  onOther = onChange;
  byId("key-open").onclick = () => askForKey("Another key may do other things.");
  byId("key-open").hidden = heldKey() === null;
}

const given = () => byId("key").value.trim();

function openDialog(why) {
  const dialog = byId("key-dialog");
  const former = heldKey();
  byId("key-why").textContent = why;
  byId("key").value = "";
  dialog.returnValue = "";
  byId("key-forget").onclick = () => dialog.close("forget");
  dialog.querySelector("form").onsubmit = (event) => {
    if (POSSIBLE.test(given())) return;
    event.preventDefault();
    byId("key-why").textContent = "No key has these characters.";
  };
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const isNew = dialog.returnValue === "use" && given() !== "";
      if (isNew) sessionStorage.setItem(NAME, given());
      if (dialog.returnValue === "forget") sessionStorage.removeItem(NAME);
      byId("key-open").hidden = false;
      resolve(isNew);
      if (heldKey() !== former) onOther();
    };
  });
}

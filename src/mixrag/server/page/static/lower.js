// What can be opened below an answer, one at a time: why it is wrong, what would change it.

import { byId, fill } from "./dom.js";

const OPENERS = { diagnosis: "wrong", changes: "change" };

/** Open one, in the place of the other. */
export function openLower(name, content) {
  closeLowers();
  fill(byId(name), content);
  byId(name).hidden = false;
  byId(OPENERS[name]).setAttribute("aria-expanded", "true");
}

/** Close what is open. */
export function closeLowers() {
  for (const [name, opener] of Object.entries(OPENERS)) {
    byId(name).hidden = true;
    fill(byId(name));
    byId(opener).setAttribute("aria-expanded", "false");
  }
}

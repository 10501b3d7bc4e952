// Panels over the page: documents, history, settings, help, and the question for a key.

import { byId, el } from "./dom.js";

/** Open a panel after `before()`, which fills it. */
export function openPanel(name, before = () => {}) {
  const panel = byId(name);
  if (panel.open) return;
  before();
  panel.showModal();
  byId(`${name}-title`).focus();
}

/** Ask for a key; `wrong`: the one before was not accepted. Resolves with it, or with null. */
export function askForKey(wrong) {
  const panel = byId("key");
  byId("key-problem").hidden = !wrong;
  byId("key-value").value = "";
  panel.showModal();
  return new Promise((resolve) => {
    let key = null;
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      key = byId("key-value").value.trim();
      panel.close();
    };
    panel.addEventListener("close", () => resolve(key), { once: true });
  });
}

/** Close panels by their buttons, and by a click around them. */
export function listenToPanels() {
  for (const closer of document.querySelectorAll("[data-closes]")) closer.addEventListener("click", () => closer.closest("dialog").close());
  for (const panel of document.querySelectorAll("dialog")) {
    panel.append(el("p", { class: "hidden", role: "status" }));
    panel.addEventListener("pointerdown", (event) => event.target === panel && !isWithin(event, panel) && panel.close());
  }
}

function isWithin({ clientX: x, clientY: y }, panel) {
  const { left, right, top, bottom } = panel.getBoundingClientRect();
  return left <= x && x <= right && top <= y && y <= bottom;
}

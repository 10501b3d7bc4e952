// Shortcuts: single keys outside of fields, which can be switched off, and Escape.

import { byId } from "./dom.js";

const STORED = "mixrag-single-keys";

/** Call the function of a key: `keys` by what is typed, `digit(n)` for 1 to 9, `escape()` where no dialog is open. */
export function listenToKeys({ keys, digit, escape }) {
  const box = byId("single-keys");
  box.checked = localStorage.getItem(STORED) !== "off";
  box.addEventListener("change", () => localStorage.setItem(STORED, box.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return escape();
    if (!box.checked || isTyping(event.target)) return;
    const action = keys[event.key];
    if (action) action();
    else if (!/^[1-9]$/.test(event.key) || !digit(Number(event.key))) return;
    event.preventDefault();
  });
}

function isTyping(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}

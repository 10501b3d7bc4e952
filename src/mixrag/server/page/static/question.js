// The field of the question.

import { byId } from "./dom.js";

const HIGHEST = 240;

/** Let the field be as high as its text. */
export function fit() {
  const field = byId("question");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, HIGHEST)}px`;
}

/** Put a text into the field. */
export function write(text) {
  byId("question").value = text;
  fit();
}

/** Call `ask()` where the question is sent; `last()` is the one before, which ↑ brings back into an empty field. */
export function listenToQuestion(ask, last) {
  const field = byId("question");
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  field.addEventListener("input", fit);
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || event.shiftKey) return;
    if (event.key === "Enter") ask();
    else if (event.key === "ArrowUp" && !field.value && last()) write(last());
    else return;
    event.preventDefault();
  });
}

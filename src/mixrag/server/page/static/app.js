// The page: a question, its answer as it is written, and the panels.

import { errorInEvent, events, onKeyNeeded, request } from "./api.js";
import { detailsOf, showAnswer } from "./answer.js";
import { citedSpans } from "./citations.js";
import { diagnosisForm } from "./diagnosis.js";
import { Documents } from "./documents.js";
import { announce, append, byId, el, fill, foreign } from "./dom.js";
import { History } from "./history.js";
import { listenToKeys } from "./keyboard.js";
import { Passages } from "./passages.js";
import { isPlain, showPlain } from "./plain.js";
import { Reader } from "./reader.js";
import { changedNote, SettingsForm } from "./settings.js";
import { count, isWithheld, percent, sureness } from "./words.js";

const reader = new Reader();
const passages = new Passages(byId("sources"), (...opened) => reader.open(state.shown.store, ...opened));
const documents = new Documents((n, inPassages) => drawAbout(n, inPassages));
const history = new History((entry) => openEntry(entry));
const settings = new SettingsForm(() => drawAbout());
const state = { models: [], model: null, shown: null, running: null, documents: null, loading: false, failed: false };

const storeOf = (model) => model.split(":")[0];

// Stores and presets

async function start() {
  fit();
  const found = await request("/v1/models");
  state.models = found.data.map((each) => each.id);
  const stores = [...new Set(state.models.map(storeOf))];
  fill(byId("store"), stores.map((name) => el("option", { value: name }, name)));
  byId("store-choice").hidden = stores.length < 2;
  await choose(stores[0]);
  byId("question").focus();
  await noteLoading();
}

/** Say that models are being loaded, until they are: the first answers wait for that. */
async function noteLoading() {
  for (state.loading = true; state.loading; drawAbout()) {
    try {
      await request("/health/ready");
      state.loading = false;
    } catch (error) {
      if (error.status !== 503) throw error;
      state.failed = error.code === "failed";
      if (state.failed) state.loading = false;
      drawAbout();
      if (state.loading) await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

async function choose(store) {
  const presets = state.models.filter((id) => id.startsWith(`${store}:`)).map((id) => id.slice(store.length + 1));
  byId("store").value = store;
  byId("preset-choice").hidden = presets.length === 0;
  fill(byId("preset"), el("option", { value: "" }, "none"), presets.map((name) => el("option", { value: name }, name)));
  state.model = store;
  await Promise.all([settings.load(store), documents.load(store)]);
}

function choosePreset(preset) {
  byId("preset").value = preset;
  const store = storeOf(state.model);
  state.model = preset ? `${store}:${preset}` : store;
  return settings.load(state.model);
}

function drawAbout(n = state.documents?.n, inPassages = state.documents?.inPassages) {
  if (n === undefined) return;
  state.documents = { n, inPassages };
  byId("empty").hidden = n > 0;
  byId("hints").hidden = n === 0 || state.shown !== null;
  byId("send").disabled = n === 0;
  const about = n ? `Answers come from ${count(n, "document")} (${count(inPassages, "passage")}) in ${storeOf(state.model)}. ` : "";
  const failed = state.failed ? "The models could not be loaded; ask something to see why. " : "";
  const loading = state.loading ? "The models are being loaded; the first answer waits for them. " : failed;
  fill(byId("about"), about, loading, changedNote(Object.keys(settings.changes).length, () => settings.reset()));
}

// A question and its answer

async function ask(more = {}) {
  const question = byId("question").value.trim();
  if (!question || state.running) return;
  const asked = { model: state.model, question, settings: { ...settings.changes, ...more } };
  const stopper = new AbortController();
  begin(asked, stopper);
  try {
    for await (const { event, data } of events("/v1/answers", { ...asked, stream: true }, stopper.signal)) take(event, data, asked);
    if (!state.shown.answer) throw errorInEvent(null);
  } catch (error) {
    if (error.name === "AbortError") stopped();
    else problem(error.message);
  } finally {
    end();
  }
}

function begin(asked, stopper) {
  state.running = stopper;
  state.shown = { asked, store: storeOf(asked.model), text: "" };
  problem(null);
  byId("hints").hidden = true;
  if (reader.isOpen) reader.close();
  byId("result").hidden = false;
  byId("result").classList.add("running");
  byId("after").hidden = byId("details").hidden = true;
  byId("send").hidden = true;
  byId("stop").hidden = false;
  fill(byId("asked"), asked.question);
  fit();
  byId("answer").setAttribute("aria-busy", "true");
  fill(byId("answer"), el("p", { class: "waiting" }, "Looking for passages …"));
  fill(byId("sources"));
  announce("Looking for passages.");
}

function take(event, data, asked) {
  if (event === "passages") takePassages(data);
  else if (event === "token") takeToken(data);
  else if (event === "answer") takeAnswer(data, asked);
  else if (event === "error") throw errorInEvent(data);
}

function takePassages(data) {
  const found = data.passages;
  passages.found(found);
  fill(byId("answer"), el("p", { class: "waiting" }, `Reading ${count(found.length, "passage")} …`));
  announce(`Reading ${count(found.length, "passage")}.`);
}

function takeToken(token) {
  passages.live(token.posterior);
  if (!token.text) return;
  const node = byId("answer").querySelector(".words") ?? fill(byId("answer"), foreign("p", { class: "words" })).firstChild;
  append(node, [token.text]);
}

function takeAnswer(answer, asked) {
  const entry = { ...asked, answer, when: Date.now() };
  show(entry);
  history.add(entry);
}

/** Show a whole answer, as it came or from the history. */
function show({ model, question, settings: changes, answer }, old = false) {
  const asked = { model, question, settings: changes };
  state.shown = { asked, answer, store: storeOf(model) };
  byId("result").hidden = false;
  byId("hints").hidden = true;
  fill(byId("asked"), question);
  fit();
  byId("after").hidden = false;
  byId("details").hidden = isPlain(answer);
  if (isPlain(answer)) showPlain(byId("answer"), byId("sources"), answer);
  else showWhole(answer);
  byId("copy").hidden = isWithheld(answer);
  byId("again").hidden = !old;
  fill(byId("wrong"), isWithheld(answer) ? "I know the answer: why was it not found?" : "Why is this wrong?");
  closeDiagnosis();
  document.title = `${question.slice(0, 60)} – mixrag`;
  announce(isWithheld(answer) ? "No answer found." : `The answer is there. ${isPlain(answer) ? "" : sureness(answer).head}`);
}

function showWhole(answer) {
  passages.finish(answer, citedSpans(answer), isWithheld(answer));
  showAnswer(byId("answer"), answer, passages);
  fill(byId("numbers"), detailsOf(answer));
}

function stopped() {
  fill(byId("answer"), el("p", { class: "waiting" }, "Stopped."));
  announce("Stopped.");
}

function end() {
  state.running = null;
  byId("result").classList.remove("running");
  byId("answer").setAttribute("aria-busy", "false");
  byId("send").hidden = false;
  byId("stop").hidden = true;
}

function problem(message) {
  byId("problem").hidden = message === null;
  fill(byId("problem"), message);
  if (message !== null) byId("result").hidden = state.shown?.answer === undefined;
}

function openEntry(entry) {
  byId("history").close();
  problem(null);
  byId("question").value = entry.question;
  show(entry, true);
  byId("result").scrollIntoView();
}

/** Ask a question of the history again, of its own store and preset where they are served. */
async function askAgain({ model, question }) {
  if (state.models.includes(model) && model !== state.model) {
    await choose(storeOf(model));
    await choosePreset(model.slice(storeOf(model).length + 1));
  }
  byId("question").value = question;
  await ask();
}

async function copyAnswer() {
  const { answer } = state.shown;
  const places = (answer.passages ?? []).filter((each) => each.posterior >= 0.05).map((each) => `${each.document}${each.place ? `, ${each.place}` : ""}`);
  await navigator.clipboard.writeText([answer.answer, ...places.map((place) => `– ${place}`)].join("\n"));
  fill(byId("copy"), "Copied");
  announce("Copied.");
  setTimeout(() => fill(byId("copy"), "Copy"), 2000);
}

function toggleDiagnosis() {
  if (byId("after").hidden) return;
  if (!byId("diagnosis").hidden) return closeDiagnosis();
  const again = (changes) => {
    for (const [name, value] of Object.entries(changes)) settings.set(name, value);
    settings.redraw();
    byId("question").value = state.shown.asked.question;
    ask();
  };
  fill(byId("diagnosis"), diagnosisForm(state.shown.asked, again));
  byId("diagnosis").hidden = false;
  byId("wrong").setAttribute("aria-expanded", "true");
  byId("expected").focus();
}

function closeDiagnosis() {
  byId("diagnosis").hidden = true;
  fill(byId("diagnosis"));
  byId("wrong").setAttribute("aria-expanded", "false");
}

// Panels, keys, files that are dropped

function openPanel(name) {
  const panel = byId(name);
  if (panel.open) return;
  if (name === "history") history.draw();
  if (name === "documents") documents.load(storeOf(state.model));
  panel.showModal();
  byId(`${name}-title`).focus();
}

function askForKey(wrong) {
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

/** Whether a click is on a panel itself, and not on what lies around it. */
function isWithin({ clientX: x, clientY: y }, panel) {
  const { left, right, top, bottom } = panel.getBoundingClientRect();
  return left <= x && x <= right && top <= y && y <= bottom;
}

/** Let the field of the question be as high as its text; the question of the answer shown is repeated where it differs. */
function fit() {
  const field = byId("question");
  byId("asked").hidden = field.value.trim() === state.shown?.asked.question;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 240)}px`;
}

function listenForFiles() {
  const sign = byId("drop-sign");
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    sign.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) sign.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    sign.hidden = true;
    addFiles([...event.dataTransfer.files]);
  });
}

function addFiles(files) {
  openPanel("documents");
  return documents.add(files);
}

function listen() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  byId("question").addEventListener("input", fit);
  byId("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  byId("stop").addEventListener("click", () => state.running?.abort());
  byId("store").addEventListener("change", (event) => guarded(choose(event.target.value)));
  byId("preset").addEventListener("change", (event) => guarded(choosePreset(event.target.value)));
  byId("copy").addEventListener("click", () => guarded(copyAnswer()));
  byId("wrong").addEventListener("click", toggleDiagnosis);
  byId("again").addEventListener("click", () => guarded(askAgain(state.shown.asked)));
  byId("reader-close").addEventListener("click", () => reader.close());
  byId("settings-reset").addEventListener("click", () => settings.reset());
  byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
  byId("first-files").addEventListener("click", () => byId("files").click());
  for (const opener of document.querySelectorAll("[data-opens]")) opener.addEventListener("click", () => openPanel(opener.dataset.opens));
  for (const closer of document.querySelectorAll("[data-closes]")) closer.addEventListener("click", () => closer.closest("dialog").close());
  for (const panel of document.querySelectorAll("dialog")) {
    panel.addEventListener("pointerdown", (event) => event.target === panel && !isWithin(event, panel) && panel.close());
  }
  listenForFiles();
  listenToKeys({
    keys: {
      "/": () => byId("question").focus(),
      d: () => openPanel("documents"),
      h: () => openPanel("history"),
      s: () => openPanel("settings"),
      w: toggleDiagnosis,
      "?": () => openPanel("help"),
    },
    digit: (n) => passages.openNumber(n),
    escape: () => (state.running ? state.running.abort() : reader.isOpen && reader.close()),
  });
}

function guarded(promise) {
  return promise.catch((error) => problem(error.message));
}

onKeyNeeded(askForKey);
listen();
guarded(start());

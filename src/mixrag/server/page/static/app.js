// The page: a question, its answer as it is written, and the panels.

import { errorInEvent, events, forgetKey, onKeyNeeded, request } from "./api.js";
import { detailsOf, showAnswer } from "./answer.js";
import { canChange, changePanel } from "./change.js";
import { citedSpans } from "./citations.js";
import { Conversation, showRewritten } from "./conversation.js";
import { diagnosisForm } from "./diagnosis.js";
import { Documents } from "./documents.js";
import { announce, append, byId, el, fill, foreign } from "./dom.js";
import { History } from "./history.js";
import { listenToKeys } from "./keyboard.js";
import { linkedPlace } from "./links.js";
import { closeLowers, openLower } from "./lower.js";
import { askForKey, listenToPanels, openPanel } from "./panels.js";
import { Passages } from "./passages.js";
import { isPlain, showPlain } from "./plain.js";
import { fit, listenToQuestion, write } from "./question.js";
import { Reader } from "./reader.js";
import { changedNote, SettingsForm } from "./settings.js";
import { listenForFiles } from "./uploads.js";
import { count, isWithheld, sureness } from "./words.js";

const reader = new Reader();
const passages = new Passages(byId("sources"), (...opened) => reader.open(state.shown.store, ...opened));
const documents = new Documents((n, inPassages) => drawAbout(n, inPassages));
const history = new History((entry) => openEntry(entry));
const conversation = new Conversation((entry) => show(entry, true));
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
  const linked = linkedPlace(location.hash);
  await choose(stores.includes(linked?.store) ? linked.store : stores[0]);
  focusFirst();
  await openLink();
  await noteLoading();
}

/** Where to begin: with a question, or with documents. */
function focusFirst() {
  byId(byId("empty").hidden ? "question" : "first-files").focus();
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

/** Open the document that the address names, as links of citations do. */
async function openLink() {
  const place = linkedPlace(location.hash);
  if (!place) return;
  const store = place.store ?? storeOf(state.model);
  if (!state.models.includes(store)) return problem(`This server has no store “${store}”.`);
  await reader.openPlace(store, place);
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
  byId("ask").classList.toggle("nothing", n === 0);
  byId("hints").hidden = state.shown !== null;
  byId("send").disabled = n === 0;
  const add = n && !state.shown ? "Drop files anywhere to add more. " : "";
  const about = n ? `Answers come from ${count(n, "document")} (${count(inPassages, "passage")}) in ${storeOf(state.model)}. ` : "";
  const failed = state.failed ? "The models could not be loaded; ask something to see why. " : "";
  const loading = state.loading ? "The models are being loaded; the first answer waits for them. " : failed;
  fill(byId("about"), about, loading, add, changedNote(Object.keys(settings.changes).length, () => settings.reset()));
}

// A question and its answer

/**
 * Ask what is in the field, or `written`.
 * `exactly`: as it is, instead of the last turn, which is asked again; else as a further one of the conversation.
 */
async function ask({ written, question, exactly = false } = {}) {
  const text = written ?? byId("question").value.trim();
  if (!text || state.running || byId("send").disabled) return;
  const instead = exactly ? state.shown?.entry : null;
  const earlier = exactly ? [] : conversation.earlier();
  const asked = { model: state.model, question: question ?? text, settings: { ...settings.changes } };
  const stopper = new AbortController();
  begin(text, asked, stopper, instead);
  try {
    const body = { ...asked, ...(earlier.length ? { earlier } : {}), stream: true };
    for await (const { event, data } of events("/v1/answers", body, stopper.signal)) take(event, data);
    if (!state.shown.answer) throw errorInEvent(null);
  } catch (error) {
    if (error.name === "AbortError") stopped();
    else problem(error.message);
    if (!byId("question").value) write(text);
  } finally {
    end();
  }
}

function begin(written, asked, stopper, instead) {
  state.running = stopper;
  state.shown = { written, asked, store: storeOf(asked.model), instead };
  problem(null);
  drawAbout();
  if (reader.isOpen) reader.close();
  closeBelow();
  byId("result").hidden = false;
  byId("result").classList.add("running");
  byId("after").hidden = byId("details").hidden = true;
  replaceButton(byId("send"), byId("stop"));
  write("");
  fill(byId("asked"), written);
  showRewritten(byId("rewritten"), written, asked.question, askExactly);
  conversation.draw(instead);
  byId("answer").setAttribute("aria-busy", "true");
  fill(byId("answer"), el("p", { class: "waiting" }, "Looking for passages …"));
  fill(byId("sources"));
  announce("Looking for passages.");
}

function take(event, data) {
  if (event === "passages") takePassages(data);
  else if (event === "token") takeToken(data);
  else if (event === "answer") takeAnswer(data);
  else if (event === "error") throw errorInEvent(data);
}

function takePassages(data) {
  const found = data.passages;
  showRewritten(byId("rewritten"), state.shown.written, data.question, askExactly);
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

function takeAnswer(answer) {
  const { written, asked, instead } = state.shown;
  const entry = { ...asked, written, question: answer.question ?? asked.question, answer, when: Date.now() };
  conversation.add(entry, instead);
  show(entry);
  history.add(entry);
}

/** Show a whole answer, as it came or from before. */
function show(entry, old = false) {
  if (state.running && old) return;
  const { model, written, question, settings: changes, answer } = entry;
  state.shown = { entry, written, asked: { model, question, settings: changes }, answer, store: storeOf(model) };
  byId("result").hidden = false;
  drawAbout();
  fill(byId("asked"), written);
  showRewritten(byId("rewritten"), written, question, askExactly);
  conversation.draw(entry);
  byId("question").placeholder = "Ask a follow-up, or something else";
  byId("after").hidden = false;
  byId("details").hidden = isPlain(answer);
  if (isPlain(answer)) showPlain(byId("answer"), byId("sources"), answer);
  else showWhole(answer);
  byId("copy").hidden = isWithheld(answer);
  byId("again").hidden = !old;
  byId("change").hidden = isPlain(answer) || !canChange(answer);
  byId("wrong").hidden = isPlain(answer);
  fill(byId("wrong"), isWithheld(answer) ? "I know the answer: why was it not found?" : "Why is this wrong?");
  closeBelow();
  document.title = `${written.slice(0, 60)} – mixrag`;
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
  replaceButton(byId("stop"), byId("send"));
}

/** One button in the place of another, which gives it its focus: hidden with it, the focus would be lost. */
function replaceButton(old, other) {
  const focused = document.activeElement === old;
  other.hidden = false;
  if (focused) (other.disabled ? byId("question") : other).focus();
  old.hidden = true;
}

function problem(message) {
  byId("problem").hidden = message === null;
  fill(byId("problem"), message);
  if (message !== null) byId("result").hidden = state.shown?.answer === undefined;
}

/** Show an entry of the history: it begins a conversation. */
function openEntry(entry) {
  byId("history").close();
  problem(null);
  const whole = { ...entry, written: entry.written ?? entry.question };
  conversation.begin(whole);
  show(whole, true);
  byId("result").scrollIntoView();
}

/** Forget the conversation, and begin another. */
function newConversation() {
  if (state.running) return;
  conversation.begin();
  conversation.draw(null);
  state.shown = null;
  problem(null);
  if (reader.isOpen) reader.close();
  closeBelow();
  byId("result").hidden = true;
  write("");
  byId("question").placeholder = "What would you like to know?";
  document.title = "mixrag";
  drawAbout();
  focusFirst();
}

/** Ask the question that is shown once more, in these words or as it was. */
function askExactly(question) {
  return guarded(ask({ written: state.shown.written, question, exactly: true }));
}

/** Ask a question that is shown again, of its own store and preset where they are served. */
async function askAgain({ model, question }) {
  const { written } = state.shown;
  if (state.models.includes(model) && model !== state.model) {
    await choose(storeOf(model));
    await choosePreset(model.slice(storeOf(model).length + 1));
  }
  await ask({ written, question, exactly: true });
}

async function copyAnswer() {
  const { answer } = state.shown;
  const places = (answer.passages ?? []).filter((each) => each.posterior >= 0.05).map((each) => `${each.document}${each.place ? `, ${each.place}` : ""}`);
  await navigator.clipboard.writeText([answer.answer, ...places.map((place) => `– ${place}`)].join("\n"));
  fill(byId("copy"), "Copied");
  announce("Copied.");
  setTimeout(() => fill(byId("copy"), "Copy"), 2000);
}

// What is below an answer: why it is wrong, what would change it

function toggleDiagnosis() {
  if (byId("after").hidden || byId("wrong").hidden) return;
  const isOpen = !byId("diagnosis").hidden;
  closeBelow();
  if (isOpen) return;
  const { written, asked } = state.shown;
  const again = (changes) => {
    for (const [name, value] of Object.entries(changes)) settings.set(name, value);
    settings.redraw();
    guarded(ask({ written, question: asked.question, exactly: true }));
  };
  openLower("diagnosis", diagnosisForm(asked, again));
  byId("expected").focus();
}

function toggleChanges() {
  if (byId("after").hidden || byId("change").hidden) return;
  const isOpen = !byId("changes").hidden;
  closeBelow();
  if (isOpen) return;
  state.asking = new AbortController();
  openLower("changes", changePanel(state.shown.asked, state.shown.answer, passages, state.asking.signal));
}

function closeBelow() {
  state.asking?.abort();
  closeLowers();
}

// Panels, keys

const PANELS = {
  documents: () => documents.load(storeOf(state.model)),
  history: () => history.draw(),
};

function open(name) {
  openPanel(name, PANELS[name]);
}

function addFiles(files) {
  open("documents");
  return documents.add(files);
}

function takeFiles({ target }) {
  addFiles([...target.files]);
  target.value = "";
}

function forget() {
  forgetKey();
  location.reload();
}

function listen() {
  listenToQuestion(ask, () => conversation.turns.at(-1)?.written);
  byId("stop").addEventListener("click", () => state.running?.abort());
  // Enter held down on "Ask" is not "Stop" as well, which has the focus next.
  for (const name of ["send", "stop"]) byId(name).addEventListener("keydown", (event) => event.repeat && event.preventDefault());
  byId("store").addEventListener("change", (event) => guarded(choose(event.target.value)));
  byId("preset").addEventListener("change", (event) => guarded(choosePreset(event.target.value)));
  byId("new").addEventListener("click", newConversation);
  byId("copy").addEventListener("click", () => guarded(copyAnswer()));
  byId("wrong").addEventListener("click", toggleDiagnosis);
  byId("change").addEventListener("click", toggleChanges);
  byId("again").addEventListener("click", () => guarded(askAgain(state.shown.asked)));
  byId("reader-close").addEventListener("click", () => reader.close());
  byId("settings-reset").addEventListener("click", () => settings.reset());
  byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
  byId("first-files").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", takeFiles);
  byId("history-forget").addEventListener("click", forget);
  byId("documents").addEventListener("close", () => {
    const { activeElement: focused, body } = document;
    if (focused === body || !focused.checkVisibility()) focusFirst();
  });
  for (const opener of document.querySelectorAll("[data-opens]")) opener.addEventListener("click", () => open(opener.dataset.opens));
  addEventListener("hashchange", () => guarded(openLink()));
  listenToPanels();
  listenForFiles(byId("drop-sign"), addFiles);
  listenToKeys({
    keys: {
      "/": () => byId("question").focus(),
      d: () => open("documents"),
      h: () => open("history"),
      s: () => open("settings"),
      n: newConversation,
      w: toggleDiagnosis,
      c: toggleChanges,
      "?": () => open("help"),
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

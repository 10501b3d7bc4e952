// Settings of a question, as the server declares them: a form, and the changes that a person made.

import { request } from "./api.js";
import { append, button, byId, el, fill } from "./dom.js";

const STORED = "mixrag-settings";
const LABELS = {
  k: "Passages to read",
  kind: "Kind of answer",
  where: "Only these documents",
  abstain_below: "How sure to be at least",
  max_tokens: "Longest answer",
};

/** The changes to settings; they last as long as the tab. */
export class SettingsForm {
  constructor(onChange) {
    this.onChange = onChange;
    this.changes = read();
    this.declared = [];
    this.asked = 0;
  }

  /** Load the settings of a model. */
  async load(model) {
    const asked = ++this.asked;
    const found = await request("/v1/settings", { query: { model } });
    if (asked !== this.asked) return found; // another model was chosen meanwhile
    this.declared = found.settings;
    this.presets = found.presets;
    for (const name of Object.keys(this.changes)) {
      if (!this.declared.some((each) => each.name === name)) delete this.changes[name];
    }
    this.#draw();
    this.#changed();
    return found;
  }

  /** Change one setting; null takes the change back. */
  set(name, value) {
    if (value === null) delete this.changes[name];
    else this.changes[name] = value;
    this.#changed();
  }

  /** Draw the form again, with all changes in it. */
  redraw() {
    this.#draw();
  }

  #changed() {
    sessionStorage.setItem(STORED, JSON.stringify(this.changes));
    const n = Object.keys(this.changes).length;
    byId("settings-reset").disabled = n === 0;
    this.onChange(n);
  }

  #draw() {
    const fields = (first) => this.declared.filter((each) => each.first === first).map((each) => this.#field(each));
    fill(
      byId("settings-fields"),
      fields(true),
      el("details", {}, el("summary", {}, "More settings"), el("div", { class: "fields" }, fields(false))),
    );
  }

  /** Take all changes back. */
  reset() {
    this.changes = {};
    this.#draw();
    this.#changed();
  }

  #field(setting) {
    const id = `setting-${setting.name}`;
    const problem = el("p", { class: "problem", id: `${id}-problem`, "aria-live": "polite" });
    const control = this.#control(setting, id, problem);
    return el(
      "div",
      { class: `field ${setting.name in this.changes ? "changed" : ""}` },
      el("label", { for: id }, LABELS[setting.name] ?? setting.name.replaceAll("_", " ")),
      control,
      el("p", { class: "help", id: `${id}-help` }, setting.help, setting.name in LABELS && [" (", el("code", {}, setting.name), ")"]),
      problem,
      setting.more && el("details", { class: "more" }, el("summary", {}, "What it means", el("span", { class: "hidden" }, `: ${setting.name}`)), el("p", {}, setting.more)),
    );
  }

  #control(setting, id, problem) {
    const described = { id, name: setting.name, "aria-describedby": `${id}-help ${id}-problem` };
    const control = ["choice", "truth"].includes(setting.type) ? this.#select(setting, described) : this.#text(setting, described);
    control.addEventListener("change", () => {
      const { value, wrong } = valueOf(setting, control.value);
      fill(problem, wrong);
      control.setAttribute("aria-invalid", String(Boolean(wrong)));
      if (wrong) return;
      control.closest(".field").classList.toggle("changed", value !== null);
      this.set(setting.name, value);
    });
    return control;
  }

  #select(setting, described) {
    const values = setting.type === "truth" ? ["true", "false"] : setting.choices;
    const word = (value) => ({ true: "on", false: "off" })[value] ?? value;
    const now = this.changes[setting.name];
    const options = values.map((value) => el("option", { value, selected: String(now) === value }, word(value)));
    return el("select", described, el("option", { value: "" }, `as it is: ${word(String(setting.value))}`), options);
  }

  #text(setting, described) {
    const now = this.changes[setting.name];
    const value = now === undefined ? "" : setting.type === "mapping" ? pairs(now) : String(now);
    const given = setting.type === "mapping" ? pairs(setting.value) : setting.value;
    const placeholder = given === null || given === "" ? `as it is: ${setting.absent || "none"}` : `as it is: ${given}`;
    const numeric = ["whole", "number"].includes(setting.type) && !setting.choices.length;
    return el("input", { ...described, value, placeholder, autocomplete: "off", maxlength: "500", inputmode: numeric ? "decimal" : null });
  }
}

/** The value that a text means: `{value}`, null where nothing is changed, or `{wrong}`. */
export function valueOf(setting, text) {
  const typed = text.trim();
  if (!typed) return { value: null };
  if (setting.type === "truth") return { value: typed === "true" };
  if (setting.choices.includes(typed)) return { value: typed };
  if (setting.type === "mapping") return mapping(typed);
  if (setting.type === "text") return { value: typed };
  const value = Number(typed);
  const whole = setting.type !== "whole" || Number.isInteger(value);
  const inside = (setting.least === null || value >= setting.least) && (setting.most === null || value <= setting.most);
  return Number.isFinite(value) && whole && inside ? { value } : { wrong: `Give ${wanted(setting)}.` };
}

function wanted(setting) {
  const kind = setting.type === "whole" ? "a whole number" : "a number";
  const least = setting.least === null ? "" : ` from ${setting.least}`;
  const most = setting.most === null ? "" : ` to ${setting.most}`;
  return [`${kind}${least}${most}`, ...setting.choices].join(", or ");
}

/** "year>=2020; file=*.pdf" as a mapping of keys to conditions; numbers as numbers. */
function mapping(text) {
  const found = {};
  for (const part of text.split(";").filter((each) => each.trim())) {
    const match = /^\s*([^=<>]+?)\s*(>=|<=|=|>|<)\s*(.+?)\s*$/.exec(part);
    if (!match) return { wrong: "Give KEY=VALUE, several separated by semicolons." };
    const [, key, sign, value] = match;
    found[key] = sign === "=" ? value : `${sign}${value}`;
  }
  return { value: found };
}

function pairs(found) {
  return Object.entries(found ?? {})
    .map(([key, value]) => (/^[<>]/.test(value) ? `${key}${value}` : `${key}=${value}`))
    .join("; ");
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED)) ?? {};
  } catch {
    return {};
  }
}

/** The one-line note on settings that were changed, with a way back. */
export function changedNote(n, reset) {
  if (!n) return null;
  const text = n === 1 ? "1 setting is changed. " : `${n} settings are changed. `;
  return append(el("span", { class: "note" }), [text, button("Use the defaults", reset, { class: "link" })]);
}

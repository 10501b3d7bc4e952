// Requests to this server: the key, errors, events of a stream, uploads.

import { nameOf } from "./uploads.js";

const KEY = "mixrag-key";
let askForKey = async () => null;
let asking = null;
const listeners = [];

/** What the server says is wrong. */
export class ApiError extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Set the function that asks a person for a key: `(wasWrong) => Promise` of the key, or of null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Whether this tab has a key. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

/** Call a function whenever the key has changed or was forgotten: `(hasKey)`. */
export function onKeyChange(listener) {
  listeners.push(listener);
}

/** Forget the key of this tab, and with it what was answered to it. */
export function forgetKey() {
  setKey(null);
}

function setKey(key) {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
  for (const listener of listeners) listener(key !== null);
}

/** The JSON that a request is answered with; null where the answer is empty. */
export async function request(path, { method = "GET", body, query, signal } = {}) {
  const response = await send(address(path, query), { method, body, signal });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** The events of a stream, each `{event, data}`. */
export async function* events(path, body, signal) {
  const response = await send(path, { method: "POST", body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      yield* parser.add(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Upload files: `sent(share)` says how much has gone, `event({event, data})` what the server does with them.
 * Resolves with the last data of the stream.
 */
export async function upload(path, query, files, { sent, event }) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    try {
      return await uploadOnce(address(path, query), files, { sent, event });
    } catch (error) {
      if (error.status !== 401 || !(await newKey(used))) throw error;
    }
  }
}

function uploadOnce(url, files, { sent, event }) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const file of files) form.append("files", file, nameOf(file));
    const http = new XMLHttpRequest();
    const parser = new EventParser();
    let read = 0;
    let last = null;
    const readOn = () => {
      if (http.status >= 400) return;
      for (const each of parser.add(http.responseText.slice(read))) {
        last = each;
        event(each);
      }
      read = http.responseText.length;
    };
    http.open("POST", url);
    for (const [name, value] of Object.entries(headers())) http.setRequestHeader(name, value);
    http.upload.addEventListener("progress", (e) => e.lengthComputable && sent(e.loaded / e.total));
    http.addEventListener("progress", readOn);
    http.addEventListener("load", () => {
      readOn();
      if (http.status >= 400) reject(errorOf(http.status, http.responseText));
      else if (last?.event === "error") reject(errorOf(500, JSON.stringify(last.data)));
      else if (last?.event !== "report") reject(new ApiError(500, "The answer was broken off; see the list of documents."));
      else resolve(last?.data ?? null);
    });
    http.addEventListener("error", () => reject(unreachable()));
    http.send(form);
  });
}

async function send(url, { method, body, signal }) {
  for (;;) {
    const used = sessionStorage.getItem(KEY);
    const response = await fetched(url, method, body, signal);
    if (response.ok) return response;
    const error = errorOf(response.status, await response.text());
    if (error.status !== 401 || !(await newKey(used))) throw error;
  }
}

async function fetched(url, method, body, signal) {
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await fetch(url, {
      method,
      signal,
      headers: { ...headers(), ...kind },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Ask for a key in the place of the one that was refused, once for all requests that wait for one. */
function newKey(refused) {
  const now = sessionStorage.getItem(KEY);
  if (now !== null && now !== refused) return true;
  if (now !== null) setKey(null);
  asking ??= askForKey(refused !== null).then((key) => {
    asking = null;
    if (key) setKey(key);
    return Boolean(key);
  });
  return asking;
}

function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function unreachable() {
  return new ApiError(0, "The server cannot be reached. Is it still running?");
}

function errorOf(status, text) {
  try {
    const { error, status: state } = JSON.parse(text);
    if (error?.message) return new ApiError(status, error.message, error.code);
    if (state) return new ApiError(status, `The server answered: ${state}.`, state);
  } catch {
    // No JSON: the status is all there is.
  }
  return new ApiError(status, `The server answered with status ${status}.`);
}

/** The error in the data of an event "error". */
export function errorInEvent(data) {
  return new ApiError(500, data?.error?.message ?? data?.message ?? "The answer was broken off.", data?.error?.code);
}

/** Server-sent events from pieces of text. */
export class EventParser {
  #rest = "";

  /** The events that a further piece of text completes; the data of each are JSON. */
  add(text) {
    const found = [];
    this.#rest = (this.#rest + text).replace(/\r\n/g, "\n");
    for (let end = this.#rest.indexOf("\n\n"); end >= 0; end = this.#rest.indexOf("\n\n")) {
      const event = parsed(this.#rest.slice(0, end));
      this.#rest = this.#rest.slice(end + 2);
      if (event) found.push(event);
    }
    return found;
  }
}

function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (!data.length || data.join("") === "[DONE]") return null;
  return { event, data: JSON.parse(data.join("\n")) };
}

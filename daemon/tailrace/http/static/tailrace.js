// A run's events in a page: `import { follow, start, sign } from ".../tailrace.js"`.
//
// It reads server-sent events with fetch, because EventSource can neither send a token nor POST.
// A stream that breaks is resumed after the last event that came, with growing pauses, until the
// run's last event; nothing is lost and nothing comes twice. How it looks is left to the page.

const LAST = new Set(["summary", "aborted"]);
const MOST_WAIT_MS = 30_000;
const SILENCE_MS = 45_000; // the daemon sends a comment every 15 seconds: without three, it is gone

/** An answer that no repetition makes better; `status` and `problem` (RFC 9457) say why. */
export class TailraceError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/**
 * Read a run's events: `for await (const {event, data, id} of events(url)) …`.
 *
 * `url` is a run's `events_url`, a signed link, `/ops/PIPELINE?…` or, with `body`, `/api/v1/runs`.
 * Options: `token`; `body`, an object that is sent by POST and starts the run once, however often
 * the connection breaks; `after`, the id to begin after; `signal`, an AbortSignal; `retrying(error,
 * ms)`, called before each pause.
 */
export async function* events(url, { token, body, after, signal, retrying } = {}) {
  const key = body && Array.from(crypto.getRandomValues(new Uint8Array(16))).join("-");
  let id = after === undefined ? "" : String(after);
  for (let failures = 0; ; failures++) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (token) headers.Authorization = `Bearer ${token}`;
      if (body) headers["Content-Type"] = "application/json";
      if (key) headers["Idempotency-Key"] = key;
      if (id) headers["Last-Event-ID"] = id;
      for await (const item of read(url, { headers, body, signal })) {
        if (item === END) return;
        failures = 0;
        if (item.id) id = item.id;
        yield item;
        if (LAST.has(item.event)) return;
      }
      throw new Error("the stream broke");
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof TailraceError && error.status < 500 && error.status !== 429) throw error;
      const ms = Math.min(MOST_WAIT_MS, 250 * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2);
      retrying?.(error, ms);
      await pause(ms, signal);
    }
  }
}

/** Call `handlers[event](data, id)` for each event, and `handlers["*"](event, data, id)`. */
export async function follow(url, handlers, options) {
  for await (const { event, data, id } of events(url, options)) {
    handlers[event]?.(data, id);
    handlers["*"]?.(event, data, id);
  }
}

/** Start a run and follow it: `start(base, token, {pipeline, params}, handlers)`. */
export function start(base, token, body, handlers, options = {}) {
  return follow(new URL("api/v1/runs", slashed(base)), handlers, { ...options, token, body });
}

/** Sign a link: `sign(base, token, run, {what: "artifact", path, expires})` gives its address. */
export async function sign(base, token, run, body) {
  const answer = await fetch(new URL(`api/v1/runs/${encodeURIComponent(run)}/links`, slashed(base)), {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const said = await answer.json();
  if (!answer.ok) throw new TailraceError(answer.status, said);
  return said.url;
}

/** What a step that narrates has said: `text` adds to it, `result` replaces it. */
export class Narration {
  #texts = new Map();

  /** Take an event; return its step's text where it changed it, else undefined. */
  take(event, data) {
    if (event === "text") this.#texts.set(data.step, this.of(data.step) + data.delta);
    else if (event === "result") this.#texts.set(data.step, data.text);
    else return undefined;
    return this.of(data.step);
  }

  /** The text of a step so far. */
  of(step) {
    return this.#texts.get(step) ?? "";
  }
}

const END = Symbol("end");

async function* read(url, { headers, body, signal }) {
  const gone = new AbortController();
  const stop = () => gone.abort(signal.reason);
  signal?.addEventListener("abort", stop);
  if (signal?.aborted) stop();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => gone.abort(new Error("nothing came for too long")), SILENCE_MS);
  };
  try {
    alive();
    const answer = await fetch(url, {
      method: body ? "POST" : "GET",
      body: body && JSON.stringify(body),
      headers,
      signal: gone.signal,
      cache: "no-store",
    });
    if (answer.status === 204) return yield END;
    if (!answer.ok) throw new TailraceError(answer.status, await answer.json().catch(() => ({})));
    if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      const said = await answer.json().catch(() => ({}));
      throw new TailraceError(answer.status, { detail: said.reason ?? "the answer is no stream" });
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser(isPlain(url));
    for (let part; !(part = await reader.read()).done; ) {
      alive();
      yield* parser.take(part.value);
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    gone.abort(); // also when the page stops reading: the connection is closed
  }
}

/** Server-sent events (WHATWG HTML, 9.2.6) as the daemon writes them: lines end with \n. */
class Parser {
  #rest = [];
  #item = {};
  #plain;

  constructor(plain) {
    this.#plain = plain;
  }

  *take(text) {
    const lines = text.split("\n");
    for (const [n, line] of lines.entries()) {
      this.#rest.push(line);
      if (n + 1 === lines.length) return;
      const whole = this.#rest.join("");
      this.#rest = [];
      if (whole) this.#field(whole);
      else {
        const { event, id, data } = this.#item;
        this.#item = {};
        if (data !== undefined) yield shaped(event, id, data, this.#plain);
      }
    }
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon > 0) this.#item[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
}

/** Whether lines come as bare text. The address says so; a line could say anything. */
function isPlain(url) {
  const { pathname, searchParams } = new URL(url, import.meta.url);
  return /\/ops\/[^/]+$/.test(pathname) || ["1", "true", "yes", ""].includes(searchParams.get("plain"));
}

/** The data as an object; the bare text of `?plain=1` as `{text}`. */
function shaped(event, id, data, plain) {
  const found = plain && event === "log" ? { text: data } : JSON.parse(data);
  return { event: event ?? found.event, id, data: found };
}

function slashed(base) {
  return String(base).endsWith("/") ? base : `${base}/`;
}

function pause(ms, signal) {
  return new Promise((done, failed) => {
    const abort = () => (clearTimeout(timer), failed(signal.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", abort), done()), ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

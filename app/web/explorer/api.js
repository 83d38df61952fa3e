// Asking the service. Whatever goes wrong comes out as one thing, a Problem, or as an AbortError when nobody waits any
// more.

export const FIBONACCI = "/api/v1/fibonacci";
export const JOBS = "/api/v1/jobs";
export const STREAM = "/api/v1/stream";

// What a proxy answers while a host behind it restarts, and what a full service answers: worth another try.
const PASSING = [0, 429, 502, 503, 504];

/** An RFC 9457 problem, or what stands for one where the service could not even say that. */
export class Problem extends Error {
  constructor({ type, title, detail, status = 0, parameter, minimum, maximum }, retryAfter = null) {
    super(`${title}: ${detail}`);
    Object.assign(this, { type, title, detail, status, parameter, minimum, maximum, retryAfter });
  }

  get passing() {
    return PASSING.includes(this.status);
  }

  /** What to say of it in the middle of a line: a title of the type about:blank only repeats the status. */
  get brief() {
    return this.type === "about:blank" ? this.detail.replace(/\.$/, "") : this.title;
  }

  /** The detail, and the bounds where it does not name them itself. */
  get explained() {
    const { minimum, maximum } = this;
    if (maximum == null || this.detail.includes(String(maximum))) return this.detail;
    return `${this.detail} It may be from ${minimum ?? 0} to ${maximum}.`;
  }
}

/** A reference with its query: no value can break out of it, nor out of a shell's quotes around it. */
export function reference(path, values = {}) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value != null));
  return query.size ? `${path}?${query}` : path;
}

export function segment(text) {
  return encodeURIComponent(text).replaceAll("'", "%27");
}

/** Ask; return the status, the document and the seconds of Retry-After. onBytes hears how much has come so far. */
export async function ask(target, { method = "GET", body, signal, onBytes } = {}) {
  const headers = { Accept: "application/json, application/problem+json" };
  if (body) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(target, { method, headers, signal, body: body && JSON.stringify(body) });
    text = await read(response, onBytes);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw response
      ? new Problem({ title: "The answer broke off", detail: "The connection was lost on the way. Try again." })
      : new Problem({ title: "No connection", detail: "The service did not answer. Is the network there?" });
  }
  const retryAfter = seconds(response.headers.get("Retry-After"));
  const document = response.headers.get("Content-Type")?.includes("json") ? parsed(text) : null;
  if (!response.ok) {
    const said = typeof document?.title === "string" && typeof document?.detail === "string" ? document : {
      title: `Status ${response.status}`,
      detail: "The service gave an answer that this page does not understand.",
    };
    throw new Problem({ ...said, status: response.status }, retryAfter);
  }
  if (document === null && response.status !== 204) {
    throw new Problem({ title: "A strange answer", detail: "What came is not JSON.", status: response.status });
  }
  return { status: response.status, document, retryAfter };
}

async function read(response, onBytes) {
  if (!onBytes || !response.body) return response.text();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const pieces = [];
  for (let bytes = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return pieces.join("") + decoder.decode();
    pieces.push(decoder.decode(value, { stream: true }));
    onBytes((bytes += value.length));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function seconds(header) {
  if (header === null) return null;
  const wait = /^[0-9]+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.min(Math.max(wait, 0), 3600) : null;
}

/** Wait; an AbortError ends it early. */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Wait until somebody looks at this tab. */
export function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const look = () => document.hidden || (document.removeEventListener("visibilitychange", look), resolve());
    document.addEventListener("visibilitychange", look, { signal });
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

// The live stream: one websocket, resumed where it was cut, and what has come of it, in a space that does not grow.

import { ask, Problem, reference, STREAM } from "./api.js";
import { Chart, Recent, Trace } from "./chart.js";
import { grouped, natural, plural, size } from "./digits.js";
import { announce, button, Field, form, h, Line, link, setEnabled, Trouble } from "./parts.js";
import { shortened } from "./reader.js";

const COUNT = "10000";
const BATCHES = 120;
const LATEST = 8;

// Waits between attempts grow by the golden ratio, of course.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const SLOWER = (1 + Math.sqrt(5)) / 2;

// Close codes by RFC 6455 and its registry.
const NORMAL = 1000;
const RESTART = 1012;
const TOO_SLOW = 1008;

/** The connection: hears frames in order, and comes back by itself with the next index when it is lost. */
class Connection {
  constructor({ start, count, onTerms, onState }) {
    Object.assign(this, { next: start, left: count, onTerms, onState, attempt: 0, over: false, timer: 0 });
    this.retry = () => this.waiting && this.open();
    window.addEventListener("online", this.retry);
    this.open();
  }

  get values() {
    return { start: this.next, count: this.left };
  }

  open() {
    clearTimeout(this.timer);
    this.waiting = false;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${reference(STREAM, this.values)}`);
    this.socket = socket;
    this.opened = false;
    this.onState("connecting");
    const current = (handle) => (event) => this.socket === socket && !this.over && handle(event);
    socket.onopen = current(() => {
      this.opened = true;
      this.since = performance.now();
      this.onState("live");
    });
    socket.onmessage = current(({ data }) => this.receive(data));
    socket.onclose = current(({ code }) => this.lost(code));
  }

  receive(data) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      frame = null;
    }
    if (frame?.done === true) {
      this.end("done");
      return;
    }
    const { start, terms } = frame ?? {};
    const right = start === this.next && Array.isArray(terms) && terms.length > 0 && terms.every((term) => typeof term === "string");
    if (!right) {
      this.end("failed", new Problem({
        title: "A strange frame",
        detail: `What came is not the continuation at F(${grouped(this.next)}).`,
      }));
      return;
    }
    const now = performance.now();
    this.attempt = 0;
    this.next += terms.length;
    if (this.left !== null) this.left -= terms.length;
    this.onTerms(start, terms, data.length, now - this.since);
    this.since = now;
  }

  async lost(code) {
    // All terms are there, only the last frame is not.
    if (this.left === 0) {
      this.end("done");
      return;
    }
    let wait = Math.min(FIRST_WAIT * SLOWER ** this.attempt++, LONGEST_WAIT) * (0.75 + Math.random() / 2);
    let why = reason(code);
    this.waiting = true;
    if (!this.opened) {
      // A websocket does not tell why it was refused; the same question by HTTP may.
      const refusal = await this.refusal();
      if (this.over || !this.waiting) return;
      if (refusal && !refusal.passing && (refusal.parameter || refusal.status === 404)) {
        this.end("failed", refusal);
        return;
      }
      why = refusal?.passing ? refusal.brief : "The service took no connection";
      wait = Math.max(wait, (refusal?.retryAfter ?? 0) * 1000);
    }
    this.onState("waiting", why, wait);
    this.timer = setTimeout(this.retry, wait);
  }

  async refusal() {
    try {
      await ask(reference(STREAM, this.values));
    } catch (error) {
      return error;
    }
    return null;
  }

  end(state, problem) {
    this.close();
    this.onState(state, problem);
  }

  /** End it without a word. */
  close() {
    this.over = true;
    clearTimeout(this.timer);
    window.removeEventListener("online", this.retry);
    this.socket.close(NORMAL);
  }
}

function reason(code) {
  if (code === RESTART) return "The service restarts";
  if (code === TOO_SLOW) return "This page was too slow for the service";
  return "The connection was lost";
}

/** What has come: sums, and as much of the rest as is shown. */
class Record {
  constructor() {
    this.digits = new Trace();
    this.times = new Recent(BATCHES);
    this.latest = new Recent(LATEST);
    this.terms = this.bytes = this.batches = 0;
    this.time = 0;
  }

  add(start, terms, bytes, time) {
    terms.forEach((term, index) => this.digits.add(start + index, term.length));
    terms.slice(-LATEST).forEach((term, index, last) => this.latest.add([start + terms.length - last.length + index, term]));
    this.times.add(time);
    this.terms += terms.length;
    this.bytes += bytes;
    this.batches += 1;
    this.time += time;
  }
}

const PRIMARY = { idle: "Start", done: "Start", failed: "Start", paused: "Resume" };
const WORDS = {
  idle: "Not started",
  connecting: "Connecting…",
  live: "Live",
  paused: "Paused",
  done: "Complete",
  failed: "Stopped",
};

/** The view. */
export class Stream {
  title = "The stream";

  constructor(signal) {
    this.fields = { start: new Field("start", "From index"), count: new Field("count", "Terms", "without end") };
    this.trouble = new Trouble(Object.values(this.fields));
    this.primary = h("button", { type: "submit", class: "primary" }, "Start");
    this.stopping = button("Stop", () => this.stop());
    this.badge = h("span", { class: "badge" });
    this.why = h("span", { class: "why" });
    this.figures = ["terms", "digits now", "received", "terms / s"].map((name) => [name, h("dd", { class: "digits" })]);
    this.charts = {
      digits: new Chart("Digits per term", "digits", "The line grows by one digit about every 4.785 terms."),
      times: new Chart("Time per batch", "ms", "A bar for each batch that comes."),
    };
    this.latest = h("ol", { class: "terms latest", role: "list" });
    this.line = new Line("WebSocket URL");
    this.record = new Record();
    this.connection = null;
    this.frame = 0;
    this.drawn = 0;
    this.node = h(
      "div",
      { class: "stream" },
      h("div", { class: "toolbars" }, form("Stream", [this.fields.start, this.fields.count, this.primary, this.stopping], () => this.press())),
      h("p", { class: "streamstate" }, this.badge, this.why),
      this.trouble.node,
      h("dl", { class: "figures" }, this.figures.map(([name, node]) => h("div", {}, h("dt", {}, name), node))),
      h("div", { class: "charts" }, this.charts.digits.node, this.charts.times.node),
      h("section", { class: "latestsection", "aria-label": "Latest terms" }, h("h2", {}, "Latest terms"), this.latest),
      this.line.node,
    );
    document.addEventListener("visibilitychange", () => this.look(), { signal });
    signal.addEventListener("abort", () => this.leave());
    this.set("idle");
    this.draw();
  }

  show({ start = "0", count = COUNT }, signal) {
    const wanted = reference("#/stream", { start, count });
    if (this.shown === wanted) return;
    this.shown = wanted;
    this.disconnect();
    this.fields.start.value = start;
    this.fields.count.value = count === "endless" ? "" : count;
    this.trouble.clear();
    this.reset();
  }

  press() {
    if (PRIMARY[this.state] === "Start") this.start();
    else if (this.state === "paused") this.connect(this.rest);
    else this.pause();
  }

  start() {
    this.trouble.clear();
    const [start, count] = [this.fields.start.value || "0", this.fields.count.value];
    this.fields.start.value = start;
    const wrong = [["start", start, 0], ["count", count || "1", 1]].find(([, text, least]) => !(natural(text) >= least));
    if (wrong) {
      const [name, , least] = wrong;
      const detail = `It must be a number from ${least} on, in digits.`;
      this.trouble.show(new Problem({ title: "Invalid parameter", detail, parameter: name }));
      this.fields[name].input.focus();
      return;
    }
    // The link to this stream, without a step in the history for each start.
    this.shown = reference("#/stream", { start, count: count || "endless" });
    if (location.hash !== this.shown) history.replaceState(null, "", this.shown);
    this.reset();
    this.connect({ start: Number(start), count: count ? Number(count) : null });
  }

  connect({ start, count }) {
    this.trouble.clear();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.connection = new Connection({
      start,
      count,
      onTerms: (...batch) => {
        this.record.add(...batch);
        this.draw();
      },
      onState: (state, ...details) => this.set(state, ...details),
    });
    this.line.show(`${scheme}//${location.host}${reference(STREAM, { start, count })}`);
  }

  /** The browser goes on receiving whether anybody reads or not: to pause is to leave, and to come back later. */
  pause(why = "") {
    this.rest = { start: this.connection.next, count: this.connection.left };
    this.disconnect();
    this.set("paused", why);
  }

  stop() {
    this.disconnect();
    this.set("idle");
  }

  disconnect() {
    if (this.connection && !this.connection.over) this.connection.close();
    this.connection = null;
  }

  reset() {
    this.record = new Record();
    for (const chart of Object.values(this.charts)) chart.clear();
    this.line.show("");
    this.set("idle");
    this.draw();
  }

  leave() {
    this.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Nobody looks at a hidden tab: the service need not calculate for it. */
  look() {
    if (document.hidden && ["connecting", "live", "waiting"].includes(this.state)) {
      this.pause("while this tab is hidden");
      this.resting = true;
    } else if (!document.hidden && this.resting && this.state === "paused") {
      this.connect(this.rest);
    }
    if (!document.hidden) this.resting = false;
  }

  set(state, detail = "", wait = 0) {
    const before = this.state;
    this.state = state;
    this.primary.textContent = PRIMARY[state] ?? "Pause";
    setEnabled(this.stopping, ["connecting", "live", "waiting", "paused"].includes(state));
    this.badge.textContent = WORDS[state] ?? "Reconnecting";
    this.badge.dataset.state = state;
    if (state === "waiting") this.why.textContent = `${detail}. Going on from F(${grouped(this.connection.next)}) in ${Math.ceil(wait / 1000)} s.`;
    else this.why.textContent = typeof detail === "string" ? detail : "";
    if (state === "failed") this.trouble.show(detail);
    if (state !== before && !(state === "idle" && !before)) announce(`Stream: ${this.badge.textContent}`);
    this.draw();
  }

  /** Draw soon, once for all that came since, and never more often than the screen shows it. */
  draw() {
    this.frame ||= requestAnimationFrame((now) => {
      this.frame = 0;
      const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 50;
      if (this.state === "live" && now - this.drawn < pause) {
        this.draw();
        return;
      }
      this.drawn = now;
      this.paint();
    });
  }

  paint() {
    const { digits, times, latest, terms, bytes, time } = this.record;
    this.node.dataset.terms = terms;
    const rate = time ? grouped(Math.round((terms / time) * 1000)) : "–";
    const values = [grouped(terms), digits.last ? grouped(digits.last[1]) : "–", size(bytes), rate];
    this.figures.forEach(([, node], index) => (node.textContent = values[index]));
    this.charts.digits.line(digits.all);
    this.charts.times.bars(times.values, BATCHES);
    const rows = [...latest.values].reverse().map(([n, term]) =>
      h("li", { class: "term" }, link(`F(${grouped(n)})`, `#/term?n=${n}`, { class: "index", tabindex: this.state === "live" ? -1 : null }),
        shortened(term), h("span", { class: "count" }, plural(term.length, "digit"))));
    this.latest.replaceChildren(...(rows.length ? rows : [h("li", { class: "empty" }, "Press Start: terms appear here as they are calculated.")]));
  }
}

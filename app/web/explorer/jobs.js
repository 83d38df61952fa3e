// Calculations that take longer than a request may: asked for, watched, ended, and their results.

import { ask, JOBS, Problem, reference, seen, sleep } from "./api.js";
import { grouped, natural, plural } from "./digits.js";
import { asJob, follow, isActive, JobCard, jobHash, jobPath, jobTitle } from "./job.js";
import { announce, button, curl, Field, form, h, Line, link, quoted, setEnabled, Trouble } from "./parts.js";
import { Pager, turnByKeys } from "./sequence.js";

const PER_PAGE = 20;
const BUSY = 1500;
const QUIET = 6000;
const STATES = ["queued", "running", "done", "failed", "cancelled"];
const ENDED = ["done", "failed", "cancelled"];

/** What asks for a new job. */
class Order {
  constructor() {
    this.fields = { n: new Field("n", "Index"), start: new Field("start", "From index"), count: new Field("count", "Terms") };
    this.trouble = new Trouble(Object.values(this.fields));
    this.line = new Line();
    const choices = [["term", "One term"], ["range", "A range"]].map(([value, label]) =>
      h("label", { class: "choice" }, h("input", { type: "radio", name: "kind", value, checked: value === "term" }), label));
    this.kinds = h("fieldset", { class: "kinds", onchange: () => this.choose() }, h("legend", {}, "Calculate"), choices);
    this.submit = h("button", { type: "submit", class: "primary" }, "Start the job");
    const { n, start, count } = this.fields;
    this.form = form("New job", [this.kinds, n, start, count, this.submit], () => this.order());
    this.form.addEventListener("input", () => this.describe());
    this.node = h("section", { class: "order", "aria-label": "New job" }, this.form, this.trouble.node, this.line.node);
    this.choose();
  }

  get isRange() {
    return this.kinds.querySelector("input:checked").value === "range";
  }

  /** The request's body; numbers as numbers where they are some, else as they are, for the service to refuse. */
  get body() {
    const names = this.isRange ? ["start", "count"] : ["n"];
    return Object.fromEntries(names.map((name) => {
      const { value } = this.fields[name];
      return [name, Number.isNaN(natural(value)) ? value : natural(value)];
    }));
  }

  choose() {
    const { n, start, count } = this.fields;
    n.node.hidden = this.isRange;
    start.node.hidden = count.node.hidden = !this.isRange;
    this.trouble.clear();
    this.describe();
  }

  describe() {
    const { body } = this;
    const complete = Object.values(body).every((value) => value !== "");
    const options = ["--header 'Content-Type: application/json'", `--data ${quoted(JSON.stringify(body))}`];
    this.line.show(complete ? curl(JOBS, ...options) : "");
  }

  async order() {
    if (this.waiting) return;
    this.waiting = true;
    this.submit.setAttribute("aria-disabled", "true");
    this.trouble.clear();
    try {
      const { document } = await ask(JOBS, { method: "POST", body: this.body });
      const job = asJob(document);
      announce(`${jobTitle(job)}: ${job.state}`);
      if (this.node.isConnected) location.hash = jobHash(job.id);
    } catch (error) {
      this.trouble.show(error);
    } finally {
      this.waiting = false;
      this.submit.removeAttribute("aria-disabled");
    }
  }
}

/** The view of all jobs. */
export class Jobs {
  title = "Jobs";

  constructor() {
    this.order = new Order();
    this.trouble = new Trouble();
    // Of its own: what the list is asked every few seconds clears the other.
    this.sweepTrouble = new Trouble();
    this.cards = new Map();
    this.list = h("div", { class: "jobs" });
    this.summary = h("p", { class: "summary" });
    const id = "state-filter";
    this.filter = h("select", { id, onchange: () => (location.hash = reference("#/jobs", { state: this.filter.value })) },
      h("option", { value: "" }, "all"), STATES.map((state) => h("option", { value: state }, state)));
    this.sweep = button("", () => this.removeAll(), { class: "quiet", hidden: true });
    this.prev = link("Previous", "", { rel: "prev" });
    this.next = link("Next", "", { rel: "next" });
    const stay = (event) => event.target.getAttribute("aria-disabled") && event.preventDefault();
    this.moves = h("nav", { class: "moves", "aria-label": "Pages of jobs", hidden: true, onclick: stay }, this.prev, this.next);
    this.line = new Line();
    this.node = h(
      "div",
      {},
      this.order.node,
      h("section", { "aria-label": "All jobs" },
        h("div", { class: "summaryline" }, h("h2", {}, "All jobs"),
          h("div", { class: "actions" }, h("label", { for: id }, "State"), this.filter, this.sweep)),
        this.sweepTrouble.node, this.trouble.node, this.summary, this.list, this.moves, this.line.node),
    );
  }

  async show({ page = "1", state = "" }, signal) {
    this.again = () => this.watch({ page, state }, signal);
    this.sweepTrouble.clear();
    this.filter.value = STATES.includes(state) ? state : "";
    this.sweep.hidden = !ENDED.includes(state);
    this.sweep.textContent = `Remove all ${state}`;
    this.state = state;
    this.line.show(curl(this.target(page, state)));
    await this.again();
  }

  target(page, state) {
    return reference(JOBS, { page, per_page: PER_PAGE, state });
  }

  /** Ask for the list again and again while it is looked at: often while something goes on in it. */
  async watch(values, signal) {
    const turn = (this.turn = Symbol("turn"));
    while (this.turn === turn && !signal.aborted) {
      let pause = QUIET;
      try {
        const { document } = await ask(this.target(values.page, values.state), { signal });
        if (this.turn !== turn) return;
        this.present(document, signal);
        this.trouble.clear();
        if (document.jobs.some(isActive)) pause = BUSY;
      } catch (error) {
        if (error.name === "AbortError" || this.turn !== turn) return;
        this.trouble.show(error, { again: error.passing && this.again });
        if (!error.passing || error.retryAfter !== null) return; // a button goes on, or the service's own time
      }
      await sleep(pause, signal).catch(() => {});
      await seen(signal).catch(() => {});
    }
  }

  present(document, signal) {
    const { jobs, page, total, links } = document;
    if (!Array.isArray(jobs)) throw new Problem({ title: "A strange answer", detail: "What came is no list of jobs." });
    jobs.forEach(asJob);
    const keep = new Set(jobs.map(({ id }) => id));
    for (const [id, card] of this.cards) {
      if (keep.has(id)) continue;
      card.node.remove();
      this.cards.delete(id);
    }
    jobs.forEach((job, index) => {
      const card = this.cards.get(job.id) ?? new JobCard({ signal, onremoved: () => this.again() });
      this.cards.set(job.id, card);
      card.signal = signal;
      card.show(job);
      // Moved only where it is elsewhere: a button that moves loses the focus.
      if (this.list.children[index] !== card.node) this.list.insertBefore(card.node, this.list.children[index] ?? null);
    });
    this.summary.textContent = jobs.length
      ? plural(total ?? jobs.length, "job")
      : this.state ? `No job is ${this.state}.` : "No jobs yet. Terms and ranges too large for a moment are calculated here, one after another.";
    this.moves.hidden = !links || !("next" in links || "prev" in links);
    const at = (number) => reference("#/jobs", { page: number, state: this.state });
    setEnabled(this.prev, page > 1, at(Math.max(page - 1, 1)));
    setEnabled(this.next, Boolean(links?.next), at(page + 1));
  }

  async removeAll() {
    this.sweepTrouble.clear();
    try {
      const { document } = await ask(reference(JOBS, { state: this.state }), { method: "DELETE" });
      announce(`${grouped(document?.removed ?? 0)} removed`);
      await this.again();
    } catch (error) {
      this.sweepTrouble.show(error);
    }
  }
}

/** The view of one job, and of its result. */
export class Job {
  title = "A job";

  constructor(signal) {
    this.trouble = new Trouble();
    this.place = h("div", {});
    this.result = h("section", { class: "result", "aria-label": "Result", hidden: true });
    this.line = new Line();
    this.node = h("div", {}, h("p", { class: "back" }, link("All jobs", "#/jobs")), this.trouble.node, this.place, this.line.node, this.result);
    this.lifetime = signal;
  }

  async show({ id = "", ...values }, signal) {
    this.trouble.clear();
    if (this.id !== id) {
      this.id = id;
      this.pager = null;
      this.result.hidden = true;
      this.card = new JobCard({ linked: false, signal: this.lifetime, onremoved: () => (location.hash = "#/jobs") });
      this.place.replaceChildren();
    }
    this.line.show(curl(jobPath(id)));
    try {
      const { card } = this;
      const onJob = (job) => {
        card.show(job);
        if (!card.node.isConnected) this.place.replaceChildren(card.node);
      };
      const job = await follow(id, { signal, onJob, onPause: (text) => (card.pause.textContent = text) });
      if (job.state === "done") await this.open(job, values, signal);
    } catch (error) {
      this.trouble.show(error, { again: error.passing && (() => this.show({ id, ...values }, signal)) });
    }
  }

  async open(job, values, signal) {
    if (!this.pager) {
      this.pager = new Pager({
        path: `${jobPath(job.id)}/result`,
        hash: (page) => jobHash(job.id, page),
        first: job.start,
        perPage: String(Math.min(50, job.count)),
      });
      turnByKeys(this.pager, this.lifetime);
      this.result.replaceChildren(h("h2", {}, "Result"), this.pager.node);
      this.result.hidden = false;
    }
    await this.pager.show(values, signal);
  }
}

// One job: what it is about, how far it is, and following it to its end.

import { ask, JOBS, Problem, seen, segment, sleep } from "./api.js";
import { grouped } from "./digits.js";
import { announce, button, h, link, percent, Progress, setEnabled, Trouble } from "./parts.js";

const FIRST_WAIT = 600;
const LONGEST_WAIT = 5000;
const SLOWER = 1.25;

const STATES = ["queued", "running", "done", "failed", "cancelled"];

export function jobPath(id) {
  return `${JOBS}/${segment(id)}`;
}

export function jobHash(id, values = {}) {
  return `#/job?${new URLSearchParams({ id, ...values })}`;
}

export function isActive(job) {
  return job.state === "queued" || job.state === "running";
}

export function jobTitle({ start, count }) {
  const name = (n) => `F(${grouped(n)})`;
  return count === 1 ? name(start) : `${name(start)} to ${name(start + count - 1)}`;
}

/** The document as a job, or a Problem where it is none: the rest of the page may rely on it. */
export function asJob(document) {
  const right = typeof document?.id === "string" && STATES.includes(document.state) &&
    Number.isSafeInteger(document.start) && Number.isSafeInteger(document.count);
  if (!right) throw new Problem({ title: "A strange answer", detail: "What came is no job." });
  return document;
}

/** Ask for a job until it has ended; return it. What passes (a restart, a lost network) is told and waited for. */
export async function follow(id, { signal, onJob, onPause = () => {} }) {
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * SLOWER, LONGEST_WAIT)) {
    let pause = wait;
    try {
      const { document, retryAfter } = await ask(jobPath(id), { signal });
      const job = asJob(document);
      onPause("");
      onJob(job);
      if (!isActive(job)) return job;
      if (retryAfter !== null) pause = Math.min(Math.max(retryAfter * 1000, FIRST_WAIT), LONGEST_WAIT);
    } catch (error) {
      if (!error.passing) throw error;
      onPause(`${error.title}; asking again.`);
      pause = Math.max(wait, (error.retryAfter ?? 0) * 1000);
    }
    await sleep(pause, signal);
    await seen(signal);
  }
}

/** Follow a job to its result; a Problem where it has none. */
export async function finished(job, options) {
  const ended = await follow(asJob(job).id, options);
  if (ended.state === "done") return ended;
  throw new Problem({
    title: ended.state === "failed" ? "The calculation failed" : "The calculation was cancelled",
    detail: ended.error ?? "There is no result.",
  });
}

/** A job as a person sees it, changed in place as it goes on. */
export class JobCard {
  constructor({ onremoved, linked = true, signal } = {}) {
    this.linked = linked;
    this.onremoved = onremoved;
    this.signal = signal;
    this.job = null;
    this.name = h("span", { class: "jobname digits" });
    this.badge = h("span", { class: "badge" });
    this.progress = new Progress("Progress");
    this.facts = h("p", { class: "facts" });
    this.pause = h("p", { class: "facts" });
    this.open = link("Open", "#/jobs", { class: "button", hidden: true });
    this.end = button("Cancel", () => this.remove(), { class: "quiet" });
    this.trouble = new Trouble();
    this.node = h(
      "article",
      { class: "job" },
      h("div", { class: "jobhead" }, this.name, this.badge, h("div", { class: "actions" }, this.open, this.end)),
      this.progress.node,
      this.facts,
      this.pause,
      this.trouble.node,
    );
  }

  show(job) {
    const before = this.job?.state;
    this.job = job;
    const title = jobTitle(job);
    if (this.name.textContent !== title) {
      this.name.replaceChildren(this.linked ? link(title, jobHash(job.id)) : title);
      this.progress.bar.setAttribute("aria-label", `Progress of ${title}`);
    }
    this.badge.textContent = job.state;
    this.badge.dataset.state = job.state;
    const active = isActive(job);
    const share = job.state === "done" ? 1 : Number(job.progress) || 0;
    this.progress.node.hidden = !active;
    this.progress.show(share, job.state === "queued" ? queued(job) : percent(share));
    this.facts.textContent = facts(job);
    this.open.hidden = !this.linked || job.state !== "done";
    this.open.href = jobHash(job.id);
    this.open.setAttribute("aria-label", `Open the result of ${title}`);
    this.end.textContent = active ? "Cancel" : "Remove";
    this.end.setAttribute("aria-label", `${active ? "Cancel" : "Remove"} ${title}`);
    if (before && before !== job.state) announce(`${title}: ${job.state}`);
  }

  async remove() {
    if (this.removing) return;
    this.removing = true;
    setEnabled(this.end, false);
    this.trouble.clear();
    try {
      const { status, document } = await ask(jobPath(this.job.id), { method: "DELETE", signal: this.signal });
      if (status === 204) {
        announce(`${jobTitle(this.job)}: removed`);
        this.onremoved?.();
      } else {
        this.show(asJob(document));
      }
    } catch (error) {
      // Gone already is what was wanted.
      if (error.status === 404) this.onremoved?.();
      else this.trouble.show(error);
    } finally {
      this.removing = false;
      setEnabled(this.end, true);
    }
  }
}

function queued({ position }) {
  if (!Number.isSafeInteger(position)) return "in the queue";
  return position === 1 ? "next in the queue" : `number ${grouped(position)} in the queue`;
}

function facts({ state, error, submitted, started, finished }) {
  const said = [];
  if (typeof error === "string" && error) said.push(error);
  const asked = new Date(submitted);
  if (submitted && !Number.isNaN(asked.getTime())) said.push(`asked for ${asked.toLocaleString("en-GB")}`);
  const seconds = (Date.parse(finished) - Date.parse(started)) / 1000;
  if (state === "done" && seconds >= 0) said.push(seconds < 1 ? "took less than a second" : `took ${grouped(seconds)} s`);
  return said.join(" · ");
}

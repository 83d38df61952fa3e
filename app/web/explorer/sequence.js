// Pages of terms: of the sequence, and of a job's result.

import { ask, FIBONACCI, Problem, reference, sleep } from "./api.js";
import { bytesOf, grouped, natural, plural, size } from "./digits.js";
import { finished, JobCard } from "./job.js";
import { announce, button, curl, Field, form, h, Line, link, notice, Progress, setEnabled, Trouble } from "./parts.js";
import { termList } from "./reader.js";

const PER_PAGE = "50";
// What is loaded without asking: a moment on a poor connection. And where a bar is worth its place.
const HEAVY = 4e6;
const VISIBLE = 2e5;
const AGAIN = 500;
// No service gives that much: its refusal, with the bounds, is the better answer.
const HOPELESS = 1.1e9;

/** Ask before an answer of *bytes* is loaded that nobody may have meant to load. */
export function isHeavy(bytes) {
  return bytes > HEAVY && bytes < HOPELESS;
}

/** What takes long: the bytes as they come, or the job that has to end first. */
export class Wait {
  constructor() {
    this.node = h("div", { class: "wait" });
  }

  clear() {
    this.node.replaceChildren();
  }

  /** Ask for what may be calculated yet; return the document. *bytes* is what is expected. */
  async ask(target, { signal, bytes = 0 }) {
    const progress = new Progress("Loaded");
    const onBytes = (loaded) => progress.show(loaded / bytes, `${size(loaded)} of about ${size(bytes)}`);
    for (let round = 0; ; round++) {
      if (round) await sleep(AGAIN, signal); // a result may take a moment to be seen everywhere
      this.clear();
      if (bytes > VISIBLE) {
        progress.show(null, `about ${size(bytes)}`);
        this.node.append(progress.node);
      }
      const { status, document } = await ask(target, { signal, onBytes: bytes > VISIBLE ? onBytes : undefined });
      if (status !== 202) {
        this.clear();
        return document;
      }
      const card = new JobCard({ signal });
      card.show(document);
      this.node.replaceChildren(notice("This takes a while", "It is calculated once, for everybody who asks.", card.node));
      await finished(document, {
        signal,
        onJob: (job) => card.show(job),
        onPause: (text) => (card.pause.textContent = text),
      });
    }
  }
}

/** One page after another. *first* is the index of the first term of page 1. */
export class Pager {
  constructor({ path, hash, first = 0, perPage = PER_PAGE, tools = [] }) {
    Object.assign(this, { path, hash, first, defaultPerPage: perPage });
    this.fields = { page: new Field("page", "Page"), per_page: new Field("per_page", "Per page") };
    this.trouble = new Trouble(Object.values(this.fields));
    this.wait = new Wait();
    this.summary = h("p", { class: "summary" });
    this.list = h("div", { class: "list" });
    this.line = new Line();
    this.ways = [];
    this.allowed = "";
    const { page, per_page } = this.fields;
    const go = () => this.go({ page: page.value, per_page: per_page.value });
    this.node = h(
      "div",
      { class: "pager" },
      h("div", { class: "toolbars" },
        form("Choose a page", [page, per_page, h("button", { type: "submit" }, "Show")], go), tools),
      this.trouble.node,
      this.wait.node,
      h("div", { class: "summaryline" }, this.summary, this.moves("Pages")),
      this.list,
      this.moves("Pages, again"),
      this.line.node,
    );
  }

  moves(label) {
    const ways = { first: link("First", ""), prev: link("Previous", "", { rel: "prev" }), next: link("Next", "", { rel: "next" }) };
    this.ways.push(ways);
    const stay = (event) => event.target.getAttribute("aria-disabled") && event.preventDefault();
    return h("nav", { class: "moves", "aria-label": label, onclick: stay, hidden: true }, Object.values(ways));
  }

  go(values) {
    if (this.hash(values) === location.hash) this.again?.();
    else location.hash = this.hash(values);
  }

  /** Turn the page, if there is one on that side: for the arrow keys. */
  turn(relation) {
    const way = this.ways[0][relation];
    if (!way.closest("nav").hidden && !way.getAttribute("aria-disabled")) way.click();
  }

  async show({ page = "1", per_page = this.defaultPerPage, n }, signal) {
    this.again = () => this.show({ page, per_page, n }, signal);
    this.fields.page.value = page;
    this.fields.per_page.value = per_page;
    this.trouble.clear();
    this.wait.clear();
    const start = this.first + (natural(page) - 1) * natural(per_page);
    const bytes = bytesOf(start, natural(per_page)) || 0; // NaN is for the service to refuse
    const target = reference(this.path, { page, per_page });
    if (isHeavy(bytes) && this.allowed !== target) {
      this.empty();
      this.askFirst(target, start, natural(per_page), bytes);
      return;
    }
    this.list.setAttribute("aria-busy", "true");
    try {
      const document = await this.wait.ask(target, { signal, bytes });
      this.present(checked(document), natural(n ?? ""), target);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.empty();
      this.line.show(error.status === 400 ? curl(target, "--compressed") : "");
      this.trouble.show(error, { again: error.passing && this.again, ways: this.smaller(error, page) });
    } finally {
      if (!signal.aborted) {
        this.list.removeAttribute("aria-busy");
        if (this.trouble.node.hasChildNodes()) this.wait.clear();
      }
    }
  }

  smaller({ parameter, maximum }, page) {
    if (!(natural(this.fields[parameter]?.value ?? "") > maximum)) return [];
    const values = { page: { page: String(maximum), per_page: this.fields.per_page.value }, per_page: { page, per_page: String(maximum) } };
    const labels = { page: `Last page: ${grouped(maximum)}`, per_page: `Show ${grouped(maximum)} per page` };
    return [link(labels[parameter], this.hash(values[parameter]), { class: "button" })];
  }

  askFirst(target, start, perPage, bytes) {
    const fewer = Math.max(Math.floor((perPage * HEAVY) / bytes / 2), 1);
    const there = { page: String(Math.floor((start - this.first) / fewer) + 1), per_page: String(fewer) };
    const load = () => {
      this.allowed = target;
      this.again();
    };
    const terms = `Terms here have about ${plural(Math.round(bytes / perPage), "digit")} each.`;
    this.wait.node.replaceChildren(
      notice(
        `This page is large: about ${size(bytes)}`,
        fewer < perPage ? `${terms} Fewer of them on a page load sooner.` : terms,
        fewer < perPage && link(`Show ${fewer} per page`, this.hash(there), { class: "button" }),
        button(`Load ${size(bytes)}`, load),
      ),
    );
    this.line.show(curl(target, "--compressed"));
  }

  empty() {
    this.summary.textContent = "";
    this.list.replaceChildren();
    this.line.show("");
    for (const { next } of this.ways) next.closest("nav").hidden = true;
  }

  present({ page, per_page, start, terms, links }, highlighted, target) {
    const last = start + terms.length - 1;
    const digits = terms.reduce((sum, term) => sum + term.length, 0);
    this.summary.textContent = `Terms ${grouped(start)} to ${grouped(last)} · ${plural(digits, "digit")}`;
    this.list.replaceChildren(termList(start, terms, highlighted));
    this.line.show(curl(target, "--compressed"));
    for (const { first, prev, next } of this.ways) {
      const at = (number) => this.hash({ page: String(number), per_page: String(per_page) });
      next.closest("nav").hidden = false;
      setEnabled(first, page > 1, at(1));
      setEnabled(prev, "prev" in links, at(Math.max(page - 1, 1)));
      setEnabled(next, "next" in links, at(page + 1));
    }
    announce(`Terms ${grouped(start)} to ${grouped(last)}`);
    this.list.querySelector(".marked")?.scrollIntoView({ block: "center" });
  }
}

function checked(document) {
  const { page, per_page, start, terms } = document;
  const right = [page, per_page, start].every(Number.isSafeInteger) && Array.isArray(terms) &&
    terms.every((term) => typeof term === "string");
  if (!right) throw new Problem({ title: "A strange answer", detail: "What came is no page of terms." });
  return { ...document, links: document.links ?? {} };
}

/** Let the arrow keys turn pages, where they have nothing else to do. */
export function turnByKeys(pager, signal) {
  const turn = (event) => {
    const relation = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    const busy = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest?.("input, select, textarea");
    if (relation && !busy) pager.turn(relation);
  };
  document.addEventListener("keydown", turn, { signal });
}

/** The view of the sequence. */
export class Sequence {
  title = "The sequence";

  constructor(signal) {
    const index = new Field("n", "Jump to index");
    const jump = () => (location.hash = reference("#/term", { n: index.value }));
    this.pager = new Pager({
      path: FIBONACCI,
      hash: (values) => reference("#/sequence", values),
      tools: form("Jump to a term", [index, h("button", { type: "submit" }, "Go")], jump),
    });
    turnByKeys(this.pager, signal);
    this.node = this.pager.node;
  }

  show(params, signal) {
    return this.pager.show(params, signal);
  }
}

// One term: its digits, its neighbours, and its place in the sequence.

import { FIBONACCI, Problem, reference, segment } from "./api.js";
import { digitsOf, grouped, natural, size } from "./digits.js";
import { announce, button, curl, Field, form, h, Line, link, notice, Trouble } from "./parts.js";
import { Reader } from "./reader.js";
import { isHeavy, Wait } from "./sequence.js";

const PLACE = 50;

export class Term {
  title = "A term";

  constructor() {
    this.index = new Field("n", "Index");
    this.trouble = new Trouble([this.index]);
    this.wait = new Wait();
    this.result = h("div", { class: "result" });
    this.line = new Line();
    this.allowed = "";
    const go = () => {
      const hash = reference("#/term", { n: this.index.value });
      if (hash === location.hash) this.again?.();
      else location.hash = hash;
    };
    this.node = h(
      "div",
      {},
      h("div", { class: "toolbars" }, form("Choose a term", [this.index, h("button", { type: "submit" }, "Show")], go)),
      this.trouble.node,
      this.wait.node,
      this.result,
      this.line.node,
    );
  }

  async show({ n = "" }, signal) {
    this.again = () => this.show({ n }, signal);
    this.index.value = n;
    this.trouble.clear();
    this.wait.clear();
    this.result.replaceChildren();
    this.line.show("");
    if (n === "") {
      this.result.append(invitation());
      return;
    }
    const target = `${FIBONACCI}/${segment(n)}`;
    const bytes = digitsOf(natural(n)) || 0;
    this.line.show(curl(target, "--compressed"));
    if (isHeavy(bytes) && this.allowed !== target) {
      this.askFirst(target, natural(n), bytes);
      return;
    }
    try {
      const { n: number, value } = await this.wait.ask(target, { signal, bytes });
      if (!Number.isSafeInteger(number) || typeof value !== "string") {
        throw new Problem({ title: "A strange answer", detail: "What came is no term." });
      }
      this.present(number, value);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.wait.clear();
      this.trouble.show(error, { again: error.passing && this.again });
    }
  }

  askFirst(target, n, bytes) {
    const load = () => {
      this.allowed = target;
      this.again();
    };
    const text = "It may have to be calculated first. The page stays usable while it loads, and shows a piece at a time.";
    const title = `F(${grouped(n)}) has about ${grouped(bytes)} digits`;
    this.wait.node.replaceChildren(notice(title, text, button(`Load ${size(bytes)}`, load)));
  }

  present(n, value) {
    const page = Math.floor(n / PLACE) + 1;
    this.result.replaceChildren(
      h("h2", { class: "name digits" }, `F(${grouped(n)})`),
      h(
        "nav",
        { class: "moves", "aria-label": "Neighbours" },
        n > 0 && link(`F(${grouped(n - 1)})`, `#/term?n=${n - 1}`, { rel: "prev" }),
        link(`F(${grouped(n + 1)})`, `#/term?n=${n + 1}`, { rel: "next" }),
        link("In the sequence", reference("#/sequence", { page, per_page: PLACE, n })),
      ),
      new Reader(n, value).node,
    );
    announce(`F(${grouped(n)}), ${grouped(value.length)} digits`);
  }
}

function invitation() {
  const examples = [10, 79, 1000, 20578, 1_000_000, 10_000_000];
  return h(
    "section",
    { class: "notice", "aria-label": "Examples" },
    h("h2", {}, "Which term?"),
    h("p", {}, "Any index from 0 on. Some to begin with:"),
    h("ul", { class: "examples" }, examples.map((n) => h("li", {}, link(`F(${grouped(n)})`, `#/term?n=${n}`, { class: "digits" })))),
  );
}

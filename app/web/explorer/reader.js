// Terms on the page, never more of one than a piece at a time: the rest stays a string that the page holds.

import { ends, grouped, plural } from "./digits.js";
import { button, copyButton, Field, form, h, link, saveButton, setEnabled } from "./parts.js";

const PIECE = 1000;
const GROUP = 10;

/** A term in short: whole, or its two ends. */
export function shortened(term) {
  const parts = ends(term);
  if (!parts) return h("span", { class: "digits" }, term);
  const gap = h("span", { class: "gap" }, "…");
  return h("span", { class: "digits" }, parts[0], gap, parts[1]);
}

/** All digits of one term, a piece at a time. */
export class Reader {
  constructor(n, term) {
    this.term = term;
    this.from = 0;
    const name = `F(${grouped(n)})`;
    this.where = h("p", { class: "where", role: "status" });
    this.piece = h("p", { class: "piece digits" });
    this.at = new Field("digit", "From digit");
    const last = Math.floor((term.length - 1) / PIECE) * PIECE;
    this.buttons = [
      [button("First", () => this.show(0)), () => this.from > 0],
      [button("Previous", () => this.show(Math.max(this.from - PIECE, 0))), () => this.from > 0],
      [button("Next", () => this.show(this.from + PIECE)), () => this.from + PIECE < term.length],
      [button("Last", () => this.show(last)), () => this.from < last],
    ];
    const moves = term.length > PIECE && h(
      "div",
      { class: "readermoves" },
      h("div", { class: "actions" }, this.buttons.map(([node]) => node)),
      form("Find a digit", [this.at, h("button", { type: "submit" }, "Show")], () => this.find()),
    );
    this.node = h(
      "section",
      { class: "reader", "aria-label": `Digits of ${name}` },
      h("div", { class: "readerhead" }, this.where, h("div", { class: "actions" },
        copyButton(`all digits of ${name}`, () => term, "small"),
        saveButton(`all digits of ${name}`, `fibonacci-${n}.txt`, () => term),
      )),
      this.piece,
      moves,
    );
    this.show(0);
  }

  find() {
    const digit = Number(this.at.value);
    const right = Number.isInteger(digit) && digit >= 1 && digit <= this.term.length;
    this.at.complain(right ? "" : `There are the digits 1 to ${grouped(this.term.length)}.`);
    if (right) this.show(digit - 1);
  }

  show(from) {
    this.from = from;
    const to = Math.min(from + PIECE, this.term.length);
    this.where.textContent =
      to - from === this.term.length
        ? plural(this.term.length, "digit")
        : `Digits ${grouped(from + 1)} to ${grouped(to)} of ${grouped(this.term.length)}`;
    const groups = [];
    for (let at = from; at < to; at += GROUP) groups.push(this.term.slice(at, Math.min(at + GROUP, to)));
    this.piece.textContent = groups.join(" ");
    for (const [node, possible] of this.buttons) setEnabled(node, possible());
  }
}

/** Terms from F(start) on, as a list; a long one opens where it stands. */
export function termList(start, terms, highlighted) {
  return h("ol", { class: "terms", role: "list" }, terms.map((term, index) => {
    const n = start + index;
    const name = `F(${grouped(n)})`;
    const marked = n === highlighted;
    return h(
      "li",
      { class: marked ? "term marked" : "term", "aria-current": marked && "true" },
      link(name, `#/term?n=${n}`, { class: "index" }),
      value(n, name, term),
      h("span", { class: "count" }, plural(term.length, "digit")),
      copyButton(name, () => term),
    );
  }));
}

function value(n, name, term) {
  if (!ends(term)) return shortened(term);
  let reader = null;
  const toggle = () => {
    if (reader) reader.node.remove();
    reader = reader ? null : new Reader(n, term);
    if (reader) node.closest("li").append(reader.node);
    node.setAttribute("aria-expanded", String(reader !== null));
  };
  const node = button(shortened(term), toggle, {
    class: "value",
    "aria-expanded": "false",
    "aria-label": `Digits of ${name}`,
  });
  return node;
}

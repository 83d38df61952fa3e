// A small chart: one line or a row of bars, in SVG, coloured by the style sheet.

import { grouped } from "./digits.js";
import { h, svg } from "./parts.js";

const WIDTH = 600;
const HEIGHT = 160;
const MOST = 512;

/** Points, ever more of them in a space that does not grow: each second one goes whenever it is full. */
export class Trace {
  constructor() {
    this.points = [];
    this.stride = 1;
    this.seen = 0;
    this.last = null;
  }

  add(x, y) {
    this.last = [x, y];
    if (this.seen++ % this.stride) return;
    this.points.push(this.last);
    if (this.points.length < MOST) return;
    this.points = this.points.filter((_, index) => index % 2 === 0);
    this.stride *= 2;
  }

  /** All that is kept, and the newest in any case. */
  get all() {
    return this.last && this.points.at(-1) !== this.last ? [...this.points, this.last] : this.points;
  }
}

/** The newest values only. */
export class Recent {
  constructor(most) {
    this.most = most;
    this.values = [];
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > this.most) this.values.splice(0, this.values.length - this.most);
  }
}

export class Chart {
  constructor(title, unit, empty) {
    Object.assign(this, { title, unit, emptyText: empty });
    this.area = svg("path", { class: "area" });
    this.path = svg("path", { class: "stroke", "vector-effect": "non-scaling-stroke" });
    this.drawing = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: nothing yet` },
      this.area,
      this.path,
    );
    this.top = h("span", { class: "top" });
    this.left = h("span", {});
    this.right = h("span", {});
    this.empty = h("p", { class: "empty" }, empty);
    this.node = h(
      "figure",
      { class: "chart" },
      h("figcaption", {}, h("span", {}, title), this.top),
      h("div", { class: "plot" }, this.drawing, this.empty),
      h("div", { class: "axis", "aria-hidden": "true" }, this.left, this.right),
    );
  }

  clear() {
    for (const path of [this.area, this.path]) path.setAttribute("d", "");
    for (const label of [this.top, this.left, this.right]) label.textContent = "";
    this.empty.hidden = false;
    this.drawing.setAttribute("aria-label", `${this.title}: nothing yet`);
  }

  /** Draw *points* as a line over the ground. */
  line(points) {
    if (!points.length) return;
    const [first, last] = [points[0][0], points.at(-1)[0]];
    const most = points.reduce((sofar, [, y]) => Math.max(sofar, y), 1);
    const x = (value) => (((value - first) / (last - first || 1)) * WIDTH).toFixed(1);
    const y = (value) => (HEIGHT - (value / most) * (HEIGHT - 4)).toFixed(1);
    const line = points.map(([at, value]) => `${x(at)} ${y(value)}`).join("L");
    this.path.setAttribute("d", `M${line}`);
    this.area.setAttribute("d", `M0 ${HEIGHT}L${line}L${x(last)} ${HEIGHT}Z`);
    this.describe(most, `n = ${grouped(first)}`, grouped(last), points.at(-1)[1]);
  }

  /** Draw *values* as bars, the newest at the right. */
  bars(values, room) {
    if (!values.length) return;
    // A single hiccup must not flatten all the rest: what stands out is cut off at the top.
    const sorted = [...values].sort((a, b) => a - b);
    const most = Math.max(sorted[Math.floor(sorted.length * 0.95)] * 1.25, 0.1);
    const step = WIDTH / room;
    const bar = (value, index) =>
      `M${((room - values.length + index + 0.5) * step).toFixed(1)} ${HEIGHT}V${(HEIGHT - Math.min(value / most, 1) * (HEIGHT - 4)).toFixed(1)}`;
    this.path.setAttribute("d", values.map(bar).join(""));
    const isCut = sorted.at(-1) > most;
    this.describe(most, values.length === 1 ? "one batch" : `last ${grouped(values.length)} batches`, "now", values.at(-1), isCut);
  }

  describe(most, left, right, newest, isCut = false) {
    const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
    this.empty.hidden = true;
    this.top.textContent = isCut ? `top: ${number(most)} ${this.unit} or more` : `up to ${number(most)} ${this.unit}`;
    this.left.textContent = left;
    this.right.textContent = right;
    this.drawing.setAttribute("aria-label", `${this.title}: now ${number(newest)} ${this.unit}, ${left} to ${right}`);
  }
}

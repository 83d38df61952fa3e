// What the views are made of. Text becomes text nodes and nothing else: no answer can become markup.

import { grouped } from "./digits.js";

const SVG = "http://www.w3.org/2000/svg";
const LONGEST_VALUE = 64;
// More than this is saved to a file rather than put on the clipboard, which other programs hold in memory, too.
const LARGEST_COPY = 5e6;

export function h(name, properties, ...children) {
  return filled(document.createElement(name), properties, children);
}

export function svg(name, properties, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

function filled(node, properties, children) {
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/** Say something to those who do not see it happen. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

export function button(label, onclick, properties = {}) {
  const press = (event) => event.currentTarget.getAttribute("aria-disabled") || onclick(event);
  return h("button", { type: "button", onclick: press, ...properties }, label);
}

export function link(label, hash, properties = {}) {
  return h("a", { href: hash, ...properties }, label);
}

/** Disable a button or link without taking it off the keyboard's way: the focus must not fall from under a hand. */
export function setEnabled(node, enabled, hash) {
  if (enabled) node.removeAttribute("aria-disabled");
  else node.setAttribute("aria-disabled", "true");
  if (hash) node.setAttribute("href", hash);
}

// --- forms -----------------------------------------------------------------------------------------------------------

let ids = 0;

/** A labelled input with a place for what is wrong with it. */
export class Field {
  constructor(name, label, hint) {
    const id = `field-${++ids}`;
    this.name = name;
    this.input = h("input", {
      id,
      name,
      type: "text",
      inputmode: "numeric",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: LONGEST_VALUE,
      placeholder: hint,
      "aria-describedby": `${id}-error`,
    });
    // Below the row of its form, so that the row does not move when something is wrong.
    this.complaint = h("p", { class: "complaint", id: `${id}-error`, role: "alert" });
    this.node = h("div", { class: "field" }, h("label", { for: id }, label), this.input);
  }

  /** What was typed; people group digits, the service does not. */
  get value() {
    return this.input.value.replace(/[\s,_']/g, "");
  }

  set value(text) {
    this.input.value = text;
  }

  complain(text) {
    this.complaint.textContent = text;
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}

/** A row of controls; what is wrong with a field stands below it. */
export function form(label, children, onsubmit) {
  const submit = (event) => {
    event.preventDefault();
    onsubmit();
  };
  return h("form", { class: "toolbar", "aria-label": label, novalidate: true, onsubmit: submit },
    children.map((child) => (child instanceof Field ? child.node : child)),
    children.map((child) => child instanceof Field && child.complaint));
}

// --- problems --------------------------------------------------------------------------------------------------------

/** Where a view says what went wrong: next to the field at fault, else in a notice, with a way on. */
export class Trouble {
  constructor(fields = []) {
    this.fields = fields;
    this.node = h("div", { class: "trouble" });
    this.timer = 0;
  }

  clear() {
    clearInterval(this.timer);
    this.node.replaceChildren();
    for (const field of this.fields) field.complain("");
  }

  /** Show what was thrown. With *again* there is a button for it, pressed by itself when the service says when. */
  show(error, { again, ways = [] } = {}) {
    if (error.name === "AbortError") return;
    this.clear();
    const { title, explained = error.message, parameter, retryAfter } = error;
    if (!title) console.error(error); // a fault of this page's own
    const field = this.fields.find(({ name }) => name === parameter);
    if (field) {
      field.complain(`${title}: ${explained}`);
      if (ways.length) this.node.append(h("div", { class: "actions loose" }, ways));
      if (field.node.closest("form")?.contains(document.activeElement)) field.input.focus();
      return;
    }
    const isAsked = retryAfter !== null && retryAfter !== undefined;
    const retry = again && button("Try again", again);
    const patience = h("span", { class: "patience", "aria-hidden": "true" });
    this.node.append(
      h(
        "section",
        { class: "notice bad", "aria-label": "Problem" },
        h("div", { role: "alert" }, h("h2", {}, title ?? "This page failed"), h("p", {}, explained)),
        h("div", { class: "actions" }, ways, retry, isAsked && patience),
      ),
    );
    if (!isAsked) return;
    if (!again) {
      patience.textContent = `The service asks for ${Math.ceil(retryAfter)} s of patience.`;
      return;
    }
    let left = Math.max(Math.ceil(retryAfter), 1);
    const tick = () => {
      patience.textContent = `by itself in ${left} s`;
      if (left-- > 0) return;
      clearInterval(this.timer);
      again();
    };
    tick();
    this.timer = setInterval(tick, 1000);
  }
}

export function notice(title, text, ...actions) {
  return h(
    "section",
    { class: "notice", "aria-label": title },
    h("h2", {}, title),
    h("p", {}, text),
    h("div", { class: "actions" }, actions),
  );
}

// --- copying ---------------------------------------------------------------------------------------------------------

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Plain HTTP has no clipboard API. The older way copies a selection: here what stands in for one.
  let copied = false;
  const put = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    copied = true;
  };
  document.addEventListener("copy", put);
  document.execCommand("copy");
  document.removeEventListener("copy", put);
  if (!copied) throw new Error("this browser does not let pages copy");
}

export function copyButton(what, text, style = "copy") {
  const label = h("span", {}, "Copy");
  const say = (word) => {
    label.textContent = word;
    announce(`${word}: ${what}`);
    setTimeout(() => (label.textContent = "Copy"), 1600);
  };
  const press = async () => {
    const value = text();
    if (value.length > LARGEST_COPY) {
      say("Too long");
      return;
    }
    try {
      await copy(value);
      say("Copied");
    } catch {
      say("Not copied");
    }
  };
  return h("button", { type: "button", class: style, "aria-label": `Copy ${what}`, onclick: press }, label);
}

export function saveButton(what, filename, text) {
  const press = () => {
    const url = URL.createObjectURL(new Blob([text()], { type: "text/plain" }));
    h("a", { href: url, download: filename }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  };
  return button("Save", press, { class: "small", "aria-label": `Save ${what} as a file` });
}

const TERMINAL = "In a terminal";

/** A line that does in a terminal what the view does here. */
export class Line {
  constructor(label = TERMINAL) {
    const what = label === TERMINAL ? "the curl line" : `the ${label}`;
    this.text = "";
    this.code = h("code", {});
    this.node = h(
      "div",
      { class: "line", hidden: true },
      h("span", { class: "name" }, label),
      this.code,
      copyButton(what, () => this.text),
    );
  }

  show(text) {
    this.text = text;
    this.code.textContent = text;
    this.node.hidden = !text;
  }
}

export function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

export function curl(target, ...options) {
  return ["curl", ...options, quoted(location.origin + target)].join(" ");
}

// --- waiting ---------------------------------------------------------------------------------------------------------

/** A bar with its words. */
export class Progress {
  constructor(label) {
    this.bar = h("progress", { max: 1, value: 0, "aria-label": label });
    this.words = h("span", { class: "words" });
    this.node = h("div", { class: "progress" }, this.bar, this.words);
  }

  show(share, words) {
    if (share === null) this.bar.removeAttribute("value");
    else this.bar.value = Math.min(Math.max(share, 0), 1);
    this.words.textContent = words;
  }
}

export function percent(share) {
  return `${grouped(Math.floor(share * 100))} %`;
}

// The page: which view the address asks for. The part behind # is the whole state, so that it can be shared, and so
// that back and forward work.

import { Job, Jobs } from "./jobs.js";
import { announce, h } from "./parts.js";
import { Sequence } from "./sequence.js";
import { Stream } from "./stream.js";
import { Term } from "./term.js";

const VIEWS = { sequence: Sequence, term: Term, stream: Stream, jobs: Jobs, job: Job };
const HOME = "sequence";
// What a view is part of, where it has no place of its own in the navigation.
const PLACES = { job: "jobs" };
const LONGEST_VALUE = 64;

const main = document.getElementById("main");
let current = null;

/** The view and its parameters that *hash* names; a name that is none leads home. */
function asked(hash) {
  const [, name, query] = /^#\/([a-z]*)(?:\?(.*))?$/s.exec(hash) ?? [];
  const params = {};
  for (const [key, value] of new URLSearchParams(query ?? "")) params[key] = value.slice(0, LONGEST_VALUE);
  return { name: Object.hasOwn(VIEWS, name ?? "") ? name : HOME, params };
}

function show() {
  const { name, params } = asked(location.hash);
  if (current?.name !== name) enter(name);
  current.turn?.abort();
  current.turn = new AbortController();
  const signal = AbortSignal.any([current.life.signal, current.turn.signal]);
  Promise.resolve(current.view.show(params, signal)).catch(failed);
}

function enter(name) {
  const first = current === null;
  current?.life.abort();
  current?.turn.abort();
  const life = new AbortController();
  const view = new VIEWS[name](life.signal);
  const heading = h("h1", { tabindex: "-1" }, view.title);
  current = { name, view, life };
  main.replaceChildren(heading, view.node);
  document.title = `${view.title} · Fibonacci explorer`;
  for (const place of document.querySelectorAll("#views a")) {
    const here = place.hash === `#/${PLACES[name] ?? name}`;
    if (here) place.setAttribute("aria-current", "page");
    else place.removeAttribute("aria-current");
  }
  if (first) return;
  window.scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

/** A fault of this page: said rather than swallowed, and the console keeps the trace. */
function failed(error) {
  if (error?.name === "AbortError") return;
  console.error(error);
  announce("Something in this page went wrong. Reloading it may help.");
}

// The address belongs to the views: the link that skips to the content moves the focus and leaves the address alone.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", show);
window.addEventListener("unhandledrejection", (event) => failed(event.reason));
show();

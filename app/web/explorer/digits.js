// Numbers: what is natural, how long a term is before it is known, and how a long one is shown in little.
// Terms are strings throughout: a JavaScript number is wrong from F(79) on.

const LOG_PHI = Math.log10((1 + Math.sqrt(5)) / 2);
const LOG_SQRT5 = Math.log10(5) / 2;

const NATURAL = /^(?:0|[1-9][0-9]{0,14})$/;

// The longest term that a list shows in full, and what is shown of each end of a longer one.
const WHOLE = 60;
const END = 24;

/** The number that text spells, or NaN. The service refuses what is none; this is for our own sums. */
export function natural(text) {
  return NATURAL.test(text) ? Number(text) : NaN;
}

/** How many digits F(n) has, by its closed form: near enough to tell how large an answer will be. */
export function digitsOf(n) {
  return n < 2 ? 1 : Math.floor(n * LOG_PHI - LOG_SQRT5) + 1;
}

/** About how many bytes F(start) … F(start + count - 1) take: their lengths grow evenly. */
export function bytesOf(start, count) {
  return Math.round(((digitsOf(start) + digitsOf(start + count - 1)) / 2 + 3) * count);
}

export function grouped(number) {
  return number.toLocaleString("en");
}

export function plural(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

export function size(bytes) {
  for (const [unit, scale] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= scale) return `${(bytes / scale).toLocaleString("en", { maximumSignificantDigits: 3 })} ${unit}`;
  }
  return plural(bytes, "byte");
}

/** The ends of a term too long for a line, or null where it fits. */
export function ends(term) {
  return term.length <= WHOLE ? null : [term.slice(0, END), term.slice(-END)];
}

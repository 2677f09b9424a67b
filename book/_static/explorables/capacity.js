import { SPRITE_LIKENESS, SPRITE_NAMES, unpackSprites } from "./sprites.js";
import {
  choice,
  clamp,
  colours,
  join,
  line,
  nice,
  node,
  numberFrom,
  push,
  random,
  reducedMotion,
  rgb,
  shuffled,
  size,
  svg,
} from "./common.js";
import { Explorable, explorable } from "./life.js";

// How many can you keep? It must teach: sharper energies keep more memories, and overload does not
// blur, it swaps.
//
//   E(sigma) = -sum_mu F(m_mu),  m_mu = xi_mu . sigma / D,  F(m) = m^n;
//   "exp": E = -(1/D) log sum_mu exp(D m_mu).
//   A bit takes the value of the lower energy; on a tie it stays.

const SIDE = 24;
export const D = SIDE * SIDE;
const MOST = 200;
const RULES = ["2", "3", "4", "exp"];
const INITIAL = { k: 6, n: "2", noise: 15, crowd: "creatures", who: 12 };
const LIMIT = 0.138 * D; // where n = 2 loses random patterns (MM 2.19)

const CREATURES = unpackSprites();

/** K random patterns of +-1, the same for the same seed, as rows of one Int8Array. */
export function randomPatterns(count, seed) {
  const dice = random(seed);
  return Int8Array.from({ length: count * D }, () => (dice() < 0.5 ? -1 : 1));
}

/** What is stored: creature `who` (from 0) first, then K - 1 others in their order, or random patterns. */
export function storedPatterns({ k, crowd, who, seed = 1 }) {
  const rows = new Int8Array(k * D);
  rows.set(CREATURES.subarray(who * D, (who + 1) * D));
  if (crowd === "noise") {
    rows.set(randomPatterns(k - 1, 1000 * seed + who), D);
    return rows;
  }
  for (let row = 1, i = 0; row < k; i++) {
    if (i !== who) rows.set(CREATURES.subarray(i * D, (i + 1) * D), D * row++);
  }
  return rows;
}

/** A cue: the pattern with round(share D) of its pixels flipped, chosen by the seed. */
export function cueFrom(pattern, share, seed) {
  const cue = Int8Array.from(pattern);
  const order = shuffled(D, random(77 + seed));
  for (let i = 0; i < Math.round(share * D); i++) cue[order[i]] *= -1;
  return cue;
}

/** The bits to visit: `sweeps` permutations of all of them, one after the other. */
export function visitOrder(seed, sweeps = 20) {
  const dice = random(4242 + seed);
  return Int32Array.from(Array.from({ length: sweeps }, () => shuffled(D, dice)).flat());
}

/** Rows to columns: entry mu of column i stands at i K + mu, so that a visit reads one stretch. */
function columnsOf(rows, count) {
  const columns = new Int8Array(rows.length);
  for (let mu = 0; mu < count; mu++) {
    for (let i = 0; i < D; i++) columns[i * count + mu] = rows[mu * D + i];
  }
  return columns;
}

/** All overlaps xi_mu . sigma, as whole numbers. */
export function overlaps(rows, count, state) {
  const m = new Int32Array(count);
  for (let mu = 0; mu < count; mu++) {
    let sum = 0;
    for (let i = 0; i < D; i++) sum += rows[mu * D + i] * state[i];
    m[mu] = sum;
  }
  return m;
}

/** The energy for overlaps that are whole numbers; -1: one memory matched perfectly. */
function energyOf(m, n) {
  if (n === "exp") {
    let top = -Infinity;
    for (const s of m) top = Math.max(top, s);
    let sum = 0;
    for (const s of m) sum += Math.exp(s - top);
    return -(top + Math.log(sum)) / D;
  }
  let sum = 0;
  for (const s of m) sum += (s / D) ** Number(n);
  return -sum;
}

// With a = the overlap without bit i, a memory votes xi (F(a + 1) - F(a - 1)): whole numbers for powers
// of whole numbers (a common factor left out), exp(a) for the exponential.
const tabled = (f) => Float64Array.from({ length: 2 * D + 1 }, (_, i) => f(i - D));
const POWERS = {
  2: tabled((a) => a),
  3: tabled((a) => 3 * a * a + 1),
  4: tabled((a) => a * a * a + a),
};
const FALL = Float64Array.from({ length: 2 * D + 4 }, (_, i) => Math.exp(1 - i));

/** What the memories in `run` say about bit i: its sign is the bit's value of lower energy. */
function vote({ columns, stride, count, m, n, top }, i, bit) {
  const from = i * stride;
  let sum = 0;
  if (n !== "exp") {
    const power = POWERS[n];
    for (let mu = 0; mu < count; mu++) {
      const xi = columns[from + mu];
      sum += xi * power[m[mu] - xi * bit + D];
    }
    return sum;
  }
  let strengths = 0;
  for (let mu = 0; mu < count; mu++) {
    const xi = columns[from + mu];
    const strength = FALL[top - m[mu] + xi * bit + 1];
    sum += xi * strength;
    strengths += strength;
  }
  return Math.abs(sum) > 1e-12 * strengths ? sum : closeVote({ columns, from, count, m }, bit);
}

/** A vote too close for rounded numbers: add equal strengths as whole numbers first. */
function closeVote({ columns, from, count, m }, bit) {
  const votes = new Map();
  for (let mu = 0; mu < count; mu++) {
    const xi = columns[from + mu];
    const a = m[mu] - xi * bit;
    votes.set(a, (votes.get(a) ?? 0) + xi);
  }
  const left = [...votes].filter(([, v]) => v !== 0).sort((p, q) => q[0] - p[0]);
  return left.reduce((sum, [a, v]) => sum + v * Math.exp(a - left[0][0]), 0);
}

/**
 * Visit bits in the given order; each takes the value of the lower energy (exact, kept overlaps).
 * Stops after a whole sweep of D visits without a flip. Returns the last state, its overlaps, the
 * number of visits made, and the flips: at which visit, which bit, and the energy after it.
 */
export function recall(rows, count, cue, visits, n) {
  const columns = columnsOf(rows, count);
  const m = overlaps(rows, count, cue);
  return descend({ columns, stride: count, count, m, n }, cue, visits, true);
}

function descend(memory, cue, visits, record) {
  const { columns, stride, count, m, n } = memory;
  const state = Int8Array.from(cue);
  const flips = [];
  const energies = record ? [energyOf(m, n)] : [];
  const highest = () => (n === "exp" ? m.reduce((a, b) => Math.max(a, b), -Infinity) : 0);
  const run = { ...memory, top: highest() };
  let flipped = true;
  let made = 0;
  for (const i of visits) {
    if (made % D === 0) {
      if (!flipped) break; // a whole sweep changed nothing
      flipped = false;
    }
    made++;
    const wish = Math.sign(vote(run, i, state[i]));
    if (wish !== -state[i]) continue;
    flipped = true;
    state[i] = wish;
    for (let mu = 0; mu < count; mu++) m[mu] += 2 * wish * columns[i * stride + mu];
    run.top = highest();
    if (record) {
      flips.push({ visit: made, bit: i });
      energies.push(energyOf(m, n));
    }
  }
  return { state, overlaps: m, visits: made, flips, energies };
}

/** Share of pixels where two states differ. */
export function difference(a, b) {
  let wrong = 0;
  for (let i = 0; i < D; i++) wrong += a[i] !== b[i];
  return wrong / D;
}

/**
 * Who is it? Compares a state with everything stored (row 0 is the one that was asked for):
 * {kind: "right" | "swap" | "negative" | "mixture" | "average" | "nobody", who: [rows], wrong: pixels}.
 */
export function recognise(rows, count, state) {
  const m = overlaps(rows, count, state);
  const ranked = [...m.keys()].sort((a, b) => Math.abs(m[b]) - Math.abs(m[a]) || a - b);
  const best = ranked[0];
  const close = 0.03 * D; // a few stray pixels do not hide a face
  const wrong = (D - Math.abs(m[best])) / 2;
  if (wrong <= close) {
    if (m[best] < 0) return { kind: "negative", who: [best], wrong };
    return { kind: best === 0 ? "right" : "swap", who: [best], wrong };
  }
  for (const crowd of [3, 5]) {
    if (crowd >= count) break;
    const chosen = ranked.slice(0, crowd);
    const misfit = misfitWith(
      rows,
      state,
      chosen,
      chosen.map((mu) => Math.sign(m[mu])),
    );
    if (misfit <= close) return { kind: "mixture", who: chosen, wrong: misfit };
  }
  if (count > 2) {
    const everybody = [...m.keys()];
    for (const sign of [1, -1]) {
      const misfit = misfitWith(
        rows,
        state,
        everybody,
        everybody.map(() => sign),
      );
      if (misfit <= 2 * close) return { kind: "average", who: [best], wrong: misfit, sign };
    }
  }
  return { kind: "nobody", who: [best], wrong };
}

/** Pixels in which a state differs from the majority of some memories (an even vote fits both). */
function misfitWith(rows, state, chosen, signs) {
  let wrong = 0;
  for (let i = 0; i < D; i++) {
    let sum = 0;
    chosen.forEach((mu, c) => {
      sum += signs[c] * rows[mu * D + i];
    });
    if (sum * state[i] < 0) wrong++;
  }
  return wrong;
}

/** Row r of what is stored, by name. */
function nameOf(row, { crowd, who }) {
  if (row > 0 && crowd === "noise") return `random pattern ${row}`;
  const index = row === 0 ? who - 1 : row <= who - 1 ? row - 1 : row;
  return `${SPRITE_NAMES[index]} (creature ${index + 1})`;
}

/** One recall from settings: what was stored, the cue, the run, and who came out. */
export function experiment({ k, n, noise, crowd, who }, edits = null) {
  const rows = storedPatterns({ k, crowd, who: who - 1 });
  const target = rows.subarray(0, D);
  const cue = cueFrom(target, noise / 100, who);
  if (edits)
    edits.forEach((edit, i) => {
      if (edit) cue[i] = edit === 1 ? -1 : -target[i];
    });
  const run = recall(rows, k, cue, visitOrder(who), n);
  const wanted = energyOf(overlaps(rows, k, target), n);
  return { rows, target, cue, run, wanted, found: recognise(rows, k, run.state) };
}

/** What happened, in words: [lead, rest, kind]. */
export function tell({ found, run, wanted }, settings) {
  const end = run.energies.at(-1);
  const asked = SPRITE_NAMES[settings.who - 1];
  const deeper = `E\u00a0=\u00a0${nice(end)}; the stored ${asked} lies higher, at ${nice(wanted)}.`;
  const lower = end < wanted - 1e-9 && found.kind !== "right" ? ` It did go downhill, to ${deeper}` : "";
  const [lead, rest] = OUTCOMES[found.kind](found, settings);
  return [lead, `${rest}${lower}`, found.kind === "right" ? "good" : "bad"];
}

const differ = (found, otherwise) => (found.wrong > 0 ? `${found.wrong} of ${D} pixels differ.` : otherwise);

/** [lead, rest] for each kind of end. */
const OUTCOMES = {
  right: (found, settings) => [`This is ${nameOf(0, settings)}.`, differ(found, "Every pixel is back.")],
  swap: (found, settings) => [
    `This is ${nameOf(found.who[0], settings)}.`,
    `${differ(found, "Every pixel is right.")} A stored memory, whole and sharp, ` +
      "and not the one that was asked for.",
  ],
  negative(found, settings) {
    const { n } = settings;
    const even = n === "2" || n === "4";
    const why = even ? ` With n\u00a0=\u00a0${n} a picture and its negative have the same energy.` : "";
    const which = found.wrong > 0 ? `All but ${found.wrong} pixels are` : "Every pixel is";
    return [`This is the negative of ${nameOf(found.who[0], settings)}.`, `${which} turned over.${why}`];
  },
  mixture({ who }, settings) {
    const names = join(who.map((row) => nameOf(row, settings)));
    const lead = `A mixture of ${who.length === 3 ? "three" : "five"}.`;
    return [lead, `Pixel by pixel the vote of ${names}. Nobody stored it.`];
  },
  average({ sign }, { crowd, k }) {
    const others = crowd === "noise" ? "patterns" : "creatures";
    const lead = sign > 0 ? "Everybody at once." : "The negative of everybody at once.";
    return [lead, `Pixel by pixel the majority of all ${k} ${others}. Nobody stored it.`];
  },
  nobody({ who, wrong }, settings) {
    const first = nameOf(who[0], settings);
    const near = `${first[0].toUpperCase()}${first.slice(1)} comes nearest`;
    const rest = `Nothing stored looks like this. ${near}, and ${Math.round(wrong)} of ${D} pixels differ.`;
    return ["Nobody.", rest];
  },
};

/** The K at which the small curve is measured, and with how many creatures at each. */
export const CURVE_K = [
  1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 36, 43, 50, 58, 66, 74, 82, 90, 100, 112, 125, 140, 160, 180, 200,
];
const TRIALS = 8;

/** Measure the share of wrong pixels after recall over CURVE_K; yields between recalls. */
export function* measureCurve(n, crowd, share) {
  const trials = [];
  for (let who = 0; who < TRIALS; who++) {
    const rows = storedPatterns({ k: MOST, crowd, who, seed: 5 });
    const target = rows.subarray(0, D);
    const cue = cueFrom(target, share, 100 + who);
    const m = overlaps(rows, MOST, cue);
    trials.push({ target, cue, m, columns: columnsOf(rows, MOST), visits: visitOrder(50 + who, 12) });
    yield null;
  }
  const wrong = [];
  for (const k of CURVE_K) {
    let sum = 0;
    for (const { target, cue, columns, m, visits } of trials) {
      const memory = { columns, stride: MOST, count: k, m: m.slice(0, k), n };
      sum += difference(descend(memory, cue, visits, false).state, target);
      yield null;
    }
    wrong.push(sum / TRIALS);
  }
  return wrong;
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = INITIAL) {
  const whole = (text, low, high, or) => Math.round(numberFrom(text, low, high, or));
  return {
    k: whole(given.k, 1, MOST, otherwise.k),
    n: RULES.includes(String(given.n)) ? String(given.n) : otherwise.n,
    noise: whole(given.noise, 0, 60, otherwise.noise),
    crowd: ["creatures", "noise"].includes(given.crowd) ? given.crowd : otherwise.crowd,
    who: whole(given.who, 1, MOST, otherwise.who),
  };
}

const STYLE_CAPACITY = `
.amx-capacity .board {
  display: grid; grid-template-columns: minmax(0, 180px) minmax(0, 1fr) minmax(0, 180px);
  gap: .6rem 1.1rem; align-items: start;
}
.amx-capacity .picture {
  position: relative; aspect-ratio: 1; border: 1px solid var(--amx-line); border-radius: 8px;
  overflow: hidden; padding: 5px;
}
.amx-capacity .picture canvas { width: 100%; height: 100%; image-rendering: pixelated; }
.amx-capacity .cue { touch-action: none; cursor: cell; }
.amx-capacity .cue:focus-within { outline: 3px solid var(--amx-halo); outline-offset: 2px; }
.amx-capacity .cue canvas:focus-visible { outline: none; }
.amx-capacity .brush {
  position: absolute; border: 2px solid var(--amx-wrong); width: 12.5%; height: 12.5%;
  pointer-events: none; display: none;
}
.amx-capacity .cue canvas:focus-visible + .brush { display: block; }
.amx-capacity .under {
  display: flex; gap: .5rem; align-items: center; margin-top: .4rem; font-size: .84rem; line-height: 1.3;
  color: var(--amx-muted); min-height: 2.6em;
}
.amx-capacity .under b { color: var(--amx-ink); font-weight: 600; }
.amx-capacity .under canvas { flex: none; width: 34px; height: 34px; image-rendering: pixelated; }
.amx-capacity .line { fill: none; stroke: var(--amx-energy); stroke-width: 2; stroke-linejoin: round; }
.amx-capacity .spot { fill: var(--amx-energy); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-capacity .wanted { stroke: var(--amx-memory); stroke-width: 1.5; stroke-dasharray: 4 3; }
.amx-capacity text.memory { fill: var(--amx-memory); font-weight: 600; }
.amx-capacity .other { fill: none; stroke: var(--amx-muted); stroke-width: 1.2; opacity: .6; }
.amx-capacity .mine { fill: none; stroke: var(--amx-ink); stroke-width: 2.4; stroke-linejoin: round; }
.amx-capacity .limit { stroke: var(--amx-ink); stroke-width: 1.3; stroke-dasharray: 5 4; }
.amx-capacity .here { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-capacity .halo {
  paint-order: stroke; stroke: var(--amx-paper); stroke-width: 4px; stroke-linejoin: round;
}
.amx-capacity .curve { margin-top: .6rem; }
.amx-capacity .axis-slider { margin: .1rem 42px .2rem 26px; }
.amx-capacity .axis-slider .amx-name { padding: 0 10px; }
.amx-capacity .honest { font-size: .84rem; color: var(--amx-muted); min-height: 2.95em; }
.amx-capacity .amx-controls { grid-template-columns: auto auto minmax(140px, 1fr); }
@media (max-width: 620px) {
  .amx-capacity .amx-controls { grid-template-columns: 1fr; }
  .amx-capacity .board { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .6rem .8rem; }
  .amx-capacity .honest { min-height: 5.85em; }
  .amx-capacity .middle { grid-area: 2 / 1 / 3 / 3; }
}
`;
const SAID = {
  right: "Recalled:",
  swap: "Recalled:",
  negative: "The negative of",
  mixture: "Mixed, first of all from",
  average: "Nearest:",
  nobody: "Nearest:",
};
const NEXT = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const grid = (attributes) => node("canvas", { width: SIDE, height: SIDE, ...attributes });

/** Draw spins into a grid, +1 as ink. */
function paint(canvas, spins, ink, paper) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < D; i++) image.data.set([...(spins[i] > 0 ? ink : paper), 255], 4 * i);
  context.putImageData(image, 0, 0);
}

/** The state after a share of the visits of a run. */
function stateAt({ cue, run }, share) {
  if (share >= 1) return run.state;
  const state = Int8Array.from(cue);
  for (const { visit, bit } of run.flips) {
    if (visit > share * run.visits) break;
    state[bit] *= -1;
  }
  return state;
}

/** The small curve: wrong pixels after recall over K, for each n; measured in the page, bit by bit. */
class Curve {
  constructor(life) {
    this.life = life;
    this.known = new Map();
    const label = "Pixels wrong after recall, over the number of stored memories";
    this.plot = svg("svg", { role: "img", "aria-label": label });
    this.honest = node("p", { class: "honest" });
  }

  key(n) {
    return `${n} ${this.life.now.crowd} ${this.life.now.noise}`;
  }

  of(n) {
    return this.known.get(this.key(n));
  }

  complete() {
    return RULES.every((n) => this.of(n));
  }

  /** Measure what is missing, the chosen n first. */
  fill() {
    const { now } = this.life;
    const missing = [now.n, ...RULES].find((n) => !this.of(n));
    if (!missing) return;
    const key = this.key(missing);
    const work = measureCurve(missing, now.crowd, now.noise / 100);
    let step = null;
    const more = () => {
      step = work.next();
      return step.done;
    };
    const end = () => {
      this.known.set(key, step.value);
      this.draw();
      this.fill();
    };
    this.life.beside(more, end);
  }

  draw() {
    const w = Math.max(260, this.plot.parentNode.clientWidth);
    const [h, left, right, top, bottom] = [140, 36, 52, 22, 18];
    const most = RULES.some((n) => Math.max(0, ...(this.of(n) ?? [])) > 0.5) ? 1 : 0.5;
    this.x = (k) => left + ((k - 1) / (MOST - 1)) * (w - left - right);
    this.y = (e) => h - bottom - (e / most) * (h - bottom - top);
    this.box = { w, h, right, floor: h - bottom, top, most };
    size(this.plot, w, h);
    this.plot.replaceChildren(
      ...this.axes(left),
      ...this.curves(),
      ...this.names(),
      ...this.here(),
      ...this.waiting(),
    );
    const like = nice(1 / SIDE);
    const where = "n\u00a0=\u00a02";
    const noise = `Random patterns overlap by ${like}: here ${where} does break near 0.138\u00a0D.`;
    const alike =
      `Creatures look alike (overlap ${nice(SPRITE_LIKENESS)}, random patterns ${like}), ` +
      `so ${where} breaks far below 0.138\u00a0D, and n\u00a0=\u00a03 breaks as well.`;
    const why = this.life.now.crowd === "noise" ? noise : alike;
    this.honest.textContent = `Measured in this page, ${TRIALS} creatures a point. ${why}`;
  }

  axes(left) {
    const { w, h, right, floor, top, most } = this.box;
    const text = (x, y, words, kind) => svg("text", { x, y, class: kind }, words);
    const limit = this.x(LIMIT);
    return [
      text(0, 11, "wrong pixels after recall, over K", "strong"),
      svg("line", { class: "axis", x1: left, x2: w - right, y1: floor, y2: floor }),
      ...[0, most / 2, most].map((e) => text(left - 6, this.y(e) + 4, `${100 * e} %`, "end")),
      ...[1, 50, 100, 150, 200].map((k) => text(this.x(k), h - 3, String(k), "mid")),
      svg("line", { class: "limit", x1: limit, x2: limit, y1: top - 4, y2: floor }),
      text(limit + 5, top + 4, `0.138 D = ${Math.round(LIMIT)}`, "halo"),
    ];
  }

  /** A word instead of empty axes. */
  waiting() {
    const place = { x: this.box.w / 2, y: this.box.floor / 2, class: "mid" };
    return RULES.some((n) => this.of(n)) ? [] : [svg("text", place, "measuring \u2026")];
  }

  /** The curves that are measured, the chosen one last and on top. */
  curves() {
    const { n: chosen } = this.life.now;
    const known = RULES.filter((n) => this.of(n)).sort((a) => (a === chosen ? 1 : -1));
    return known.map((n) => {
      const points = CURVE_K.map((k, i) => [this.x(k), this.y(this.of(n)[i])]);
      return svg("path", { class: n === chosen ? "mine" : "other", d: line(points) });
    });
  }

  /** Their names at the right, none upon another. */
  names() {
    const last = (n) => this.of(n).at(-1);
    const known = RULES.filter((n) => this.of(n));
    known.sort((a, b) => last(a) - last(b) || RULES.indexOf(b) - RULES.indexOf(a));
    let floor = this.box.floor + 12; // above the numbers of the axis
    return known.map((n) => {
      floor = Math.min(this.y(last(n)) + 4, floor - 13);
      const place = { x: this.box.w - this.box.right + 6, y: floor };
      const kind = n === this.life.now.n ? "strong" : "";
      return svg("text", { ...place, class: kind }, n === "exp" ? "exp" : `n = ${n}`);
    });
  }

  here() {
    const { k, n } = this.life.now;
    const list = this.of(n);
    if (!list) return [];
    const j = clamp(
      CURVE_K.findIndex((at) => at >= k),
      1,
      CURVE_K.length - 1,
    );
    const f = (k - CURVE_K[j - 1]) / (CURVE_K[j] - CURVE_K[j - 1]);
    const e = list[j - 1] + f * (list[j] - list[j - 1]);
    const left = k > 150;
    const [x, y] = [this.x(k), this.y(e)];
    const place = { x: x + (left ? -10 : 10), y: e > 0.3 * this.box.most ? y + 17 : y - 9 };
    return [
      svg("circle", { class: "here", cx: x, cy: y, r: 5.5 }),
      svg("text", { class: `strong halo ${left ? "end" : ""}`, ...place }, "you are here"),
    ];
  }
}

/** The cue: a picture that a brush can spoil, by pointer and by keys. */
class Cue {
  constructor(change) {
    this.change = change;
    this.mode = "erase";
    this.spot = [11, 11];
    this.clean();
    const label = "Cue, 24 by 24 pixels. Arrow keys move the brush, Space uses it.";
    this.canvas = grid({ tabindex: "0", role: "application", "aria-label": label });
    this.brush = node("div", { class: "brush" });
    this.root = node("div", { class: "picture cue" }, this.canvas, this.brush);
    this.placeBrush();
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.root.setPointerCapture(event.pointerId);
      this.last = null;
      this.rub(event);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (this.root.hasPointerCapture(event.pointerId)) this.rub(event);
    });
    this.canvas.addEventListener("keydown", (event) => this.keys(event));
  }

  clean() {
    this.edits = new Int8Array(D); // what the brush did: 1 erased, 2 flipped
  }

  stroke([x, y]) {
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const [px, py] = [x + dx, y + dy];
        if (px < 0 || py < 0 || px >= SIDE || py >= SIDE) continue;
        this.edits[py * SIDE + px] = this.mode === "erase" ? 1 : 2;
      }
    }
  }

  rub(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const to = share.map((v) => Math.floor(v * SIDE));
    const from = this.last ?? to;
    const count = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let s = 0; s <= count; s++) {
      this.stroke(from.map((v, d) => Math.round(v + ((to[d] - v) * s) / count)));
    }
    this.last = to;
    this.change();
  }

  keys(event) {
    const way = NEXT[event.key];
    if (way) {
      this.spot = this.spot.map((v, d) => clamp(v + way[d], 1, SIDE - 2));
      this.placeBrush();
    } else if (event.key === " " || event.key === "Enter") {
      this.stroke(this.spot);
      this.change();
    } else return;
    event.preventDefault();
  }

  placeBrush() {
    const [x, y] = this.spot.map((v) => `calc(5px + ${(v - 1) / SIDE} * (100% - 10px))`);
    const side = "calc(.125 * (100% - 10px))";
    this.brush.style.cssText = `left:${x};top:${y};width:${side};height:${side}`;
  }
}

class Capacity extends Explorable {
  constructor(life) {
    super(life);
    this.cue = new Cue(() => this.turn());
    this.curve = new Curve(life);
    this.answer = grid({ role: "img" });
    [this.cueThumb, this.answerThumb] = [grid({ "aria-hidden": "true" }), grid({ "aria-hidden": "true" })];
    [this.cueText, this.answerText] = [node("span"), node("span")];
    this.plot = svg("svg", { "aria-hidden": "true" });
    const under = (...parts) => node("div", { class: "under" }, ...parts);
    const board = node("div", { class: "board" });
    board.append(
      node("div", {}, this.cue.root, under(this.cueThumb, this.cueText)),
      node("div", { class: "middle" }, this.plot),
      node(
        "div",
        {},
        node("div", { class: "picture" }, this.answer),
        under(this.answerThumb, this.answerText),
      ),
    );
    this.axis = node("div", { class: "axis-slider amx-live" });
    this.ui.stage.append(board);
    this.ui.under.append(node("div", { class: "curve" }, this.curve.plot), this.axis, this.curve.honest);
  }

  compute() {
    this.result = experiment(this.now, this.cue.edits);
  }

  /** Everything that moves while the memory recalls. */
  frame() {
    const { result, hue } = this;
    const { found, run, rows } = result;
    const done = this.share >= 1;
    const ink = found.kind === "right" ? hue.memory : hue.wrong;
    paint(this.answer, stateAt(result, this.share), done ? ink : hue.trajectory, hue.paper);
    const first = rows.subarray(found.who[0] * D, (found.who[0] + 1) * D);
    paint(this.answerThumb, first, done ? hue.muted : hue.paper, hue.paper);
    const name = nameOf(found.who[0], this.now).split(" (")[0];
    const end = [`${SAID[found.kind]} `, node("b", {}, name)];
    this.answerText.replaceChildren(...(done ? end : ["Going downhill, one pixel at a time"]));
    const words = done ? tell(result, this.now)[0] : "The answer, not yet settled";
    this.answer.setAttribute("aria-label", words);
    this.drawEnergy(Math.min(1, this.share) * run.visits);
  }

  drawCue() {
    const { cue, target } = this.result;
    paint(this.cue.canvas, cue, this.hue.query, this.hue.paper);
    paint(this.cueThumb, target, this.hue.muted, this.hue.paper);
    const wrong = Math.round(difference(cue, target) * D);
    const name = node("b", {}, SPRITE_NAMES[this.now.who - 1]);
    this.cueText.replaceChildren("Cue for ", name, wrong ? `, ${wrong} pixels wrong` : ", untouched");
  }

  drawEnergy(until) {
    const { run, wanted } = this.result;
    const w = Math.max(150, this.plot.parentNode.clientWidth);
    const h = window.matchMedia("(max-width: 620px)").matches ? 120 : 226;
    const [left, top, bottom] = [4, 26, 24];
    const [low, high] = [Math.min(wanted, ...run.energies), Math.max(wanted, ...run.energies)];
    const y = (e) => h - bottom - 8 - ((e - low) / (high - low || 1)) * (h - bottom - top - 16);
    const x = (visit) => left + (visit / Math.max(1, run.visits)) * (w - left - 10);
    const points = [[x(0), y(run.energies[0])]];
    const flips = run.flips.filter(({ visit }) => visit <= until);
    flips.forEach(({ visit }, i) => {
      points.push([x(visit), y(run.energies[i])], [x(visit), y(run.energies[i + 1])]);
    });
    const e = run.energies[flips.length];
    points.push([x(until), y(e)]);
    const level = y(wanted) + (y(wanted) < h / 2 ? 16 : -7);
    const text = (at, up, words, kind) => svg("text", { x: at, y: up, class: kind }, words);
    const across = (kind, at) => svg("line", { class: kind, x1: left, x2: w - 4, y1: at, y2: at });
    size(this.plot, w, h);
    this.plot.replaceChildren(
      text(left, 12, "energy", "strong"),
      text(w - 10, 12, `E = ${nice(e)}`, "strong end"),
      across("axis", h - bottom),
      text(w - 10, h - 7, `${run.visits} visits, ${run.flips.length} flips`, "end"),
      across("wanted", y(wanted)),
      svg("path", { class: "line", d: line(points) }),
      svg("circle", { class: "spot", cx: x(until), cy: y(e), r: 5 }),
      text(w - 10, level, `the stored ${SPRITE_NAMES[this.now.who - 1]}`, "memory halo end"),
    );
  }

  draw() {
    const hues = Object.entries(colours(this.ui.root)).map(([name, hue]) => [name, rgb(hue)]);
    this.hue = Object.fromEntries(hues);
    this.drawCue();
    this.frame();
    this.curve.draw();
  }

  told() {
    return tell(this.result, this.now);
  }

  pace() {
    return 1900;
  }

  instant() {
    super.instant();
    this.curve.fill();
  }

  play(after, how) {
    super.play(after, how);
    this.curve.fill();
  }

  /** After a choice: a film, and a short one. */
  briefly() {
    this.play(null, { milliseconds: 1200 });
  }

  anew() {
    this.cue.clean();
  }

  measured() {
    return new Promise((resolve) => {
      const look = () => (this.curve.complete() ? resolve(true) : setTimeout(look, 20));
      look();
    });
  }

  controls() {
    const { ui, now, cue } = this;
    const stored = { min: 1, max: MOST, step: 1, format: String };
    const noise = { min: 0, max: 60, step: 1, format: (v) => `${v} %` };
    const crowd = [
      ["creatures", "other creatures"],
      ["noise", "random patterns"],
    ];
    const rules = RULES.map((n) => [n, n]);
    this.axis.append(this.slide("k", { label: "K, memories stored", ...stored }));
    ui.controls.append(
      this.pick("n", "n, how sharp", rules, "briefly"),
      this.pick("crowd", "Stored with it", crowd, "briefly"),
      this.slide("noise", { label: "Pixels flipped in the cue", ...noise }),
    );
    const next = () => {
      cue.clean();
      return { who: (now.who % MOST) + 1 };
    };
    const clean = () => {
      cue.clean();
      this.turn({ noise: 0 });
    };
    const buttons = [this.button("Recall again"), this.button("Next creature", next)];
    ui.row.append(...buttons, push("Clean cue", clean), this.brush());
    this.visits("Drag over the cue to spoil it; slide K and watch the face. Or try", [
      ["the limit of 0.138 D", { crowd: "noise", k: 100 }],
      ["n = 3 at the same place", { crowd: "noise", k: 100, n: "3" }],
      ["a negative", { k: 5, noise: 60 }],
      ["a swap", { n: "exp", k: 200, noise: 45 }],
    ]);
  }

  /** What the brush does; no setting, for the address keeps no brush strokes. */
  brush() {
    const options = [
      ["erase", "brush erases"],
      ["flip", "flips"],
    ];
    const made = choice({
      ...{ name: "brush", label: "", options, value: this.cue.mode },
      input: (mode) => (this.cue.mode = mode),
    });
    made.root.setAttribute("aria-label", "Brush on the cue");
    return made.root;
  }

  question() {
    const asked = { ...INITIAL, k: 20 };
    const name = SPRITE_NAMES[asked.who - 1];
    const lost = experiment(asked).found.kind !== "right";
    const kept = experiment({ ...asked, n: "3" }).found.kind === "right";
    const end = lost ? "was lost, and nothing faded: something else came, just as sharp" : "survived";
    const three = kept ? "brings every pixel back" : "fails too";
    const told = `With n\u00a0=\u00a02 it ${end}. With n\u00a0=\u00a03 the same cue ${three}.`;
    return {
      asked,
      question:
        `${name} came back from among six creatures. Now twenty are stored. ` +
        "Will n\u00a0=\u00a02 survive?",
      answers: [
        ["yes", "Yes, it comes back"],
        ["no", "No, something else comes"],
      ],
      reply: (key) => `${(key === "no") === lost ? "You saw it coming. " : ""}${told}`,
      answer: (done) => this.twice(done),
    };
  }

  /** The answer: recall with n = 2, and after a while with n = 3. */
  twice(done) {
    const sharper = () => {
      this.now.n = "3";
      this.play(done);
    };
    const pause = () => this.life.later(sharper, reducedMotion() ? 0 : 2600);
    this.play(pause, { milliseconds: 2400 });
  }

  state() {
    const { found, run } = this.result;
    return { kind: found.kind, wrong: found.wrong, flips: run.flips.length, share: this.share };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Capacity, element, options, {
    name: "capacity",
    title: "How many can you keep?",
    label: "Explorable: a spoilt picture is repaired by a binary memory that holds more and more pictures",
    ...{ style: STYLE_CAPACITY, start: INITIAL, settingsFrom },
    shared: (now) => ({ ...now }), // a copy: an answer goes on to n = 3, the address stays with the question
  });
}

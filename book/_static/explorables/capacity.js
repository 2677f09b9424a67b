import { choice, clamp, colours, explorable, nice, node, numberFrom, random, reducedMotion, rgb, set, shuffled, slider, svg, tries } from "./common.js";
import { SPRITE_LIKENESS, SPRITE_NAMES, unpackSprites } from "./sprites.js";

// How many can you keep? It must teach: sharper energies keep more memories, and overload does not
// blur, it swaps.
//
//   E(sigma) = -sum_mu F(m_mu),  m_mu = xi_mu . sigma / D,  F(m) = m^n;
//   "exp": E = -(1/D) log sum_mu exp(D m_mu).  A bit takes the value of the lower energy; on a tie it stays.

export const SIDE = 24;
export const D = SIDE * SIDE;
const MOST = 200;
const RULES = ["2", "3", "4", "exp"];
const INITIAL = { k: 6, n: "2", noise: 15, crowd: "creatures", who: 12 };
const LIMIT = 0.14 * D; // where n = 2 loses random patterns (MM 2.19)

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
export function energyOf(m, n) {
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
const POWERS = Object.fromEntries([["2", (a) => a], ["3", (a) => 3 * a * a + 1], ["4", (a) => a * a * a + a]].map(([n, f]) =>
  [n, Float64Array.from({ length: 2 * D + 1 }, (_, i) => f(i - D))]));
const FALL = Float64Array.from({ length: 2 * D + 4 }, (_, i) => Math.exp(1 - i));

function vote(columns, stride, count, m, i, bit, n, top) {
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
  let size = 0;
  for (let mu = 0; mu < count; mu++) {
    const xi = columns[from + mu];
    const strength = FALL[top - m[mu] + xi * bit + 1];
    sum += xi * strength;
    size += strength;
  }
  return Math.abs(sum) > 1e-12 * size ? sum : closeVote(columns, stride, count, m, i, bit);
}

/** A vote too close for rounded numbers: add equal strengths as whole numbers first. */
function closeVote(columns, stride, count, m, i, bit) {
  const votes = new Map();
  for (let mu = 0; mu < count; mu++) {
    const xi = columns[i * stride + mu];
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
  return descendColumns(columnsOf(rows, count), count, count, cue, overlaps(rows, count, cue), visits, n, true);
}

function descendColumns(columns, stride, count, cue, m, visits, n, record) {
  const state = Int8Array.from(cue);
  const flips = [];
  const energies = record ? [energyOf(m, n)] : [];
  const highest = () => m.reduce((a, b) => Math.max(a, b), -Infinity);
  let top = n === "exp" ? highest() : 0;
  let flipped = true;
  let made = 0;
  for (const i of visits) {
    if (made % D === 0) {
      if (!flipped) break; // a whole sweep changed nothing
      flipped = false;
    }
    made++;
    const bit = state[i];
    const wish = Math.sign(vote(columns, stride, count, m, i, bit, n, top));
    if (wish !== -bit) continue;
    flipped = true;
    state[i] = wish;
    for (let mu = 0; mu < count; mu++) m[mu] += 2 * wish * columns[i * stride + mu];
    if (n === "exp") top = highest();
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
  for (const size of [3, 5]) {
    if (size >= count) break;
    const chosen = ranked.slice(0, size);
    const misfit = misfitWith(rows, state, chosen, chosen.map((mu) => Math.sign(m[mu])));
    if (misfit <= close) return { kind: "mixture", who: chosen, wrong: misfit };
  }
  if (count > 2) {
    const everybody = [...m.keys()];
    for (const sign of [1, -1]) {
      const misfit = misfitWith(rows, state, everybody, everybody.map(() => sign));
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
    chosen.forEach((mu, c) => { sum += signs[c] * rows[mu * D + i]; });
    if (sum * state[i] < 0) wrong++;
  }
  return wrong;
}

/** Row r of what is stored, by name. */
export function nameOf(row, { crowd, who }) {
  if (row > 0 && crowd === "noise") return `random pattern ${row}`;
  const index = row === 0 ? who - 1 : row <= who - 1 ? row - 1 : row;
  return `${SPRITE_NAMES[index]} (creature ${index + 1})`;
}

/** One recall from settings: what was stored, the cue, the run, and who came out. */
export function experiment({ k, n, noise, crowd, who }, edits = null) {
  const rows = storedPatterns({ k, crowd, who: who - 1 });
  const target = rows.subarray(0, D);
  const cue = cueFrom(target, noise / 100, who);
  if (edits) edits.forEach((edit, i) => { if (edit) cue[i] = edit === 1 ? -1 : -target[i]; });
  const run = recall(rows, k, cue, visitOrder(who), n);
  const wanted = energyOf(overlaps(rows, k, target), n);
  return { rows, target, cue, run, wanted, found: recognise(rows, k, run.state) };
}

/** What happened, in words: [lead, rest, kind]. */
export function tell({ found, run, wanted }, settings) {
  const { crowd, k, n } = settings;
  const name = (row) => nameOf(row, settings);
  const others = crowd === "noise" ? "patterns" : "creatures";
  const end = run.energies.at(-1);
  const lower = end < wanted - 1e-9 && found.kind !== "right"
    ? ` It did go downhill, to E\u00a0=\u00a0${nice(end)}; the stored ${SPRITE_NAMES[settings.who - 1]} lies higher, at ${nice(wanted)}.` : "";
  const stray = found.wrong > 0 ? `${found.wrong} of ${D} pixels differ.` : "Every pixel is right.";
  const first = name(found.who[0]);
  const big = first[0].toUpperCase() + first.slice(1);
  if (found.kind === "right") return [`This is ${first}.`, stray.replace("right", "back"), "good"];
  if (found.kind === "swap") return [`This is ${first}.`, `${stray} A stored memory, whole and sharp, and not the one that was asked for.${lower}`, "bad"];
  if (found.kind === "negative") {
    const why = n === "2" || n === "4" ? ` With n\u00a0=\u00a0${n} a picture and its negative have the same energy.` : "";
    return [`This is the negative of ${first}.`, `${found.wrong > 0 ? `All but ${found.wrong} pixels are` : "Every pixel is"} turned over.${why}${lower}`, "bad"];
  }
  if (found.kind === "mixture") {
    const names = found.who.map(name);
    return [`A mixture of ${found.who.length === 3 ? "three" : "five"}.`, `Pixel by pixel the vote of ${names.slice(0, -1).join(", ")} and ${names.at(-1)}. Nobody stored it.${lower}`, "bad"];
  }
  if (found.kind === "average") return [found.sign > 0 ? "Everybody at once." : "The negative of everybody at once.", `Pixel by pixel the majority of all ${k} ${others}. Nobody stored it.${lower}`, "bad"];
  return ["Nobody.", `Nothing stored looks like this. ${big} comes nearest, and ${Math.round(found.wrong)} of ${D} pixels differ.${lower}`, "bad"];
}

/** The K at which the small curve is measured, and with how many creatures at each. */
export const CURVE_K = [1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 36, 43, 50, 58, 66, 74, 82, 90, 100, 112, 125, 140, 160, 180, 200];
const TRIALS = 8;

/** Measure the share of wrong pixels after recall over CURVE_K; yields between recalls. */
export function* measureCurve(n, crowd, share) {
  const trials = [];
  for (let who = 0; who < TRIALS; who++) {
    const rows = storedPatterns({ k: MOST, crowd, who, seed: 5 });
    const target = rows.subarray(0, D);
    const cue = cueFrom(target, share, 100 + who);
    trials.push({ target, cue, columns: columnsOf(rows, MOST), m: overlaps(rows, MOST, cue), visits: visitOrder(50 + who, 12) });
    yield null;
  }
  const wrong = [];
  for (const k of CURVE_K) {
    let sum = 0;
    for (const { target, cue, columns, m, visits } of trials) {
      sum += difference(descendColumns(columns, MOST, k, cue, m.slice(0, k), visits, n, false).state, target);
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
.amx-capacity .board { display: grid; grid-template-columns: minmax(0, 180px) minmax(0, 1fr) minmax(0, 180px); gap: .6rem 1.1rem; align-items: start; }
.amx-capacity .picture { position: relative; aspect-ratio: 1; border: 1px solid var(--amx-line); border-radius: 8px; overflow: hidden; padding: 5px; }
.amx-capacity .picture canvas { width: 100%; height: 100%; image-rendering: pixelated; }
.amx-capacity .cue { touch-action: none; cursor: cell; }
.amx-capacity .cue:focus-within { outline: 3px solid var(--amx-halo); outline-offset: 2px; }
.amx-capacity .cue canvas:focus-visible { outline: none; }
.amx-capacity .brush { position: absolute; border: 2px solid var(--amx-wrong); width: 12.5%; height: 12.5%; pointer-events: none; display: none; }
.amx-capacity .cue canvas:focus-visible + .brush { display: block; }
.amx-capacity .under { display: flex; gap: .5rem; align-items: center; margin-top: .4rem; font-size: .84rem; line-height: 1.3; color: var(--amx-muted); min-height: 2.6em; }
.amx-capacity .under b { color: var(--amx-ink); font-weight: 600; }
.amx-capacity .under canvas { flex: none; width: 34px; height: 34px; image-rendering: pixelated; }
.amx-capacity .line { fill: none; stroke: var(--amx-energy); stroke-width: 2; stroke-linejoin: round; }
.amx-capacity .spot { fill: var(--amx-energy); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-capacity .wanted { stroke: var(--amx-memory); stroke-width: 1.5; stroke-dasharray: 4 3; }
.amx-capacity .axis { stroke: var(--amx-line); stroke-width: 1; }
.amx-capacity text.strong { fill: var(--amx-ink); font-weight: 600; }
.amx-capacity text.memory { fill: var(--amx-memory); font-weight: 600; }
.amx-capacity .other { fill: none; stroke: var(--amx-muted); stroke-width: 1.2; opacity: .6; }
.amx-capacity .mine { fill: none; stroke: var(--amx-ink); stroke-width: 2.4; stroke-linejoin: round; }
.amx-capacity .limit { stroke: var(--amx-ink); stroke-width: 1.3; stroke-dasharray: 5 4; }
.amx-capacity .here { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-capacity .halo { paint-order: stroke; stroke: var(--amx-paper); stroke-width: 4px; stroke-linejoin: round; }
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

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "capacity", title: "How many can you keep?",
    label: "Explorable: a spoilt picture is repaired by a binary memory that holds more and more pictures",
    style: STYLE_CAPACITY, start: INITIAL, settingsFrom, play,
    anew() { edits = new Int8Array(D); },
    shared: () => ({ ...now }), // a copy: an answer goes on to n = 3, the address stays with the question
  });
  const { ui, now, touched, halt } = life;
  let edits = new Int8Array(D); // what the brush did: 1 erased, 2 flipped
  let brushMode = "erase";
  let result = null;
  let moment = 1; // share of the visits that is shown

  // --- pictures ------------------------------------------------------------------------------
  const grid = (attributes) => node("canvas", { width: SIDE, height: SIDE, ...attributes });
  const cueCanvas = grid({ tabindex: "0", role: "application", "aria-label": "Cue, 24 by 24 pixels. Arrow keys move the brush, Space uses it." });
  const brush = node("div", { class: "brush" });
  const cueBox = node("div", { class: "picture cue" }, cueCanvas, brush);
  const answerCanvas = grid({ role: "img" });
  const [cueThumb, answerThumb] = [grid({ "aria-hidden": "true" }), grid({ "aria-hidden": "true" })];
  const [cueText, answerText] = [node("span"), node("span")];
  const energyPlot = svg("svg", { "aria-hidden": "true" });
  const curvePlot = svg("svg", { role: "img", "aria-label": "Pixels wrong after recall, over the number of stored memories" });
  const honest = node("p", { class: "honest" });
  ui.stage.append(
    node("div", { class: "board" },
      node("div", {}, cueBox, node("div", { class: "under" }, cueThumb, cueText)),
      node("div", { class: "middle" }, energyPlot),
      node("div", {}, node("div", { class: "picture" }, answerCanvas), node("div", { class: "under" }, answerThumb, answerText))));
  const axis = node("div", { class: "axis-slider amx-live" });
  ui.under.append(node("div", { class: "curve" }, curvePlot), axis, honest);

  function paint(canvas, spins, ink, paper) {
    const [on, off] = [ink, paper];
    const context = canvas.getContext("2d");
    const image = context.createImageData(SIDE, SIDE);
    for (let i = 0; i < D; i++) {
      const colour = spins[i] > 0 ? on : off;
      image.data.set([...colour, 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  let palette = null;
  function readPalette() {
    const c = colours(ui.root);
    palette = Object.fromEntries(Object.entries(c).map(([key, value]) => [key, rgb(value)]));
  }

  function stateAt(share) {
    const { cue, run } = result;
    if (share >= 1) return run.state;
    const state = Int8Array.from(cue);
    const until = share * run.visits;
    for (const { visit, bit } of run.flips) {
      if (visit > until) break;
      state[bit] *= -1;
    }
    return state;
  }

  /** Everything that moves while the memory recalls. */
  function drawRun() {
    const done = moment >= 1;
    const { found, run, rows } = result;
    const ink = !done ? palette.trajectory : found.kind === "right" ? palette.memory : palette.wrong;
    paint(answerCanvas, stateAt(moment), ink, palette.paper);
    paint(answerThumb, rows.subarray(found.who[0] * D, (found.who[0] + 1) * D), done ? palette.muted : palette.paper, palette.paper);
    const words = { right: "Recalled:", swap: "Recalled:", negative: "The negative of", mixture: "Mixed, first of all from", average: "Nearest:", nobody: "Nearest:" };
    answerText.replaceChildren(...(done ? [`${words[found.kind]} `, node("b", {}, nameOf(found.who[0], now).split(" (")[0])] : ["Going downhill, one pixel at a time"]));
    answerCanvas.setAttribute("aria-label", done ? tell(result, now)[0] : "The answer, not yet settled");
    drawEnergy(Math.min(1, moment) * run.visits);
  }

  function drawCue() {
    paint(cueCanvas, result.cue, palette.query, palette.paper);
    paint(cueThumb, result.target, palette.muted, palette.paper);
    const wrong = Math.round(difference(result.cue, result.target) * D);
    cueText.replaceChildren("Cue for ", node("b", {}, SPRITE_NAMES[now.who - 1]), wrong ? `, ${wrong} pixels wrong` : ", untouched");
  }

  function drawEnergy(until) {
    const { run, wanted } = result;
    const w = Math.max(150, energyPlot.parentNode.clientWidth);
    const h = window.matchMedia("(max-width: 620px)").matches ? 120 : 226;
    const [left, top, bottom] = [4, 26, 24];
    const low = Math.min(wanted, ...run.energies);
    const high = Math.max(wanted, ...run.energies);
    const span = high - low || 1;
    const y = (e) => h - bottom - 8 - ((e - low) / span) * (h - bottom - top - 16);
    const x = (visit) => left + (visit / Math.max(1, run.visits)) * (w - left - 10);
    let d = `M${x(0).toFixed(1)},${y(run.energies[0]).toFixed(1)}`;
    let e = run.energies[0];
    run.flips.every(({ visit }, i) => {
      if (visit > until) return false;
      e = run.energies[i + 1];
      d += `H${x(visit).toFixed(1)}V${y(e).toFixed(1)}`;
      return true;
    });
    d += `H${x(until).toFixed(1)}`;
    const under = y(wanted) < h / 2;
    set(energyPlot, { width: w, height: h, viewBox: `0 0 ${w} ${h}`, style: `height:${h}px` });
    energyPlot.replaceChildren(
      svg("text", { x: left, y: 12, class: "strong" }, "energy"),
      svg("text", { x: w - 10, y: 12, class: "strong", "text-anchor": "end" }, `E = ${nice(e)}`),
      svg("line", { class: "axis", x1: left, x2: w - 4, y1: h - bottom, y2: h - bottom }),
      svg("text", { x: w - 10, y: h - 7, "text-anchor": "end" }, `${run.visits} visits, ${run.flips.length} flips`),
      svg("line", { class: "wanted", x1: left, x2: w - 4, y1: y(wanted), y2: y(wanted) }),
      svg("path", { class: "line", d }), svg("circle", { class: "spot", cx: x(until), cy: y(e), r: 5 }),
      svg("text", { class: "memory halo", x: w - 10, y: y(wanted) + (under ? 16 : -7), "text-anchor": "end" }, `the stored ${SPRITE_NAMES[now.who - 1]}`));
  }

  // --- the small curve -------------------------------------------------------------------------
  const curves = new Map();
  let queue = 0;
  const key = (n) => `${n} ${now.crowd} ${now.noise}`;

  /** Measure what is missing, the chosen n first, a few milliseconds at a time. */
  function fillCurves() {
    clearTimeout(queue);
    const missing = [now.n, ...RULES].find((n) => !curves.has(key(n)));
    if (!missing) return;
    const work = measureCurve(missing, now.crowd, now.noise / 100);
    const name = key(missing);
    const slice = () => {
      const began = performance.now();
      let step = work.next();
      while (!step.done && performance.now() - began < 12) step = work.next();
      if (!step.done) {
        queue = setTimeout(slice, 0);
        return;
      }
      curves.set(name, step.value);
      drawCurve();
      fillCurves();
    };
    queue = setTimeout(slice, 30);
  }

  function drawCurve() {
    const w = Math.max(260, curvePlot.parentNode.clientWidth);
    const h = 140;
    const [left, right, top, bottom] = [36, 52, 22, 18];
    const x = (k) => left + ((k - 1) / (MOST - 1)) * (w - left - right);
    const most = RULES.some((n) => Math.max(...(curves.get(key(n)) ?? [0])) > 0.5) ? 1 : 0.5;
    const y = (e) => h - bottom - (e / most) * (h - bottom - top);
    const parts = [
      svg("text", { x: 0, y: 11, class: "strong" }, "wrong pixels after recall, over K"),
      svg("line", { class: "axis", x1: left, x2: w - right, y1: h - bottom, y2: h - bottom }),
      ...[0, most / 2, most].map((e) => svg("text", { x: left - 6, y: y(e) + 4, "text-anchor": "end" }, `${100 * e} %`)),
      ...[1, 50, 100, 150, 200].map((k) => svg("text", { x: x(k), y: h - 3, "text-anchor": "middle" }, String(k))),
      svg("line", { class: "limit", x1: x(LIMIT), x2: x(LIMIT), y1: top - 4, y2: h - bottom }),
      svg("text", { class: "halo", x: x(LIMIT) + 5, y: top + 4 }, `0.14 D = ${Math.round(LIMIT)}`),
    ];
    const known = RULES.filter((n) => curves.has(key(n)));
    const path = (n) => `M${CURVE_K.map((k, i) => `${x(k).toFixed(1)},${y(curves.get(key(n))[i]).toFixed(1)}`).join("L")}`;
    for (const n of [...known].sort((a) => (a === now.n ? 1 : -1))) parts.push(svg("path", { class: n === now.n ? "mine" : "other", d: path(n) }));
    let floor = h - bottom + 17;
    for (const n of [...known].sort((a, b) => curves.get(key(a)).at(-1) - curves.get(key(b)).at(-1) || RULES.indexOf(b) - RULES.indexOf(a))) {
      const at = Math.min(y(curves.get(key(n)).at(-1)) + 4, floor - 13);
      floor = at;
      parts.push(svg("text", { x: w - right + 6, y: at, class: n === now.n ? "strong" : "" }, n === "exp" ? "exp" : `n = ${n}`));
    }
    if (curves.has(key(now.n))) {
      const list = curves.get(key(now.n));
      const j = clamp(CURVE_K.findIndex((k) => k >= now.k), 1, CURVE_K.length - 1);
      const f = (now.k - CURVE_K[j - 1]) / (CURVE_K[j] - CURVE_K[j - 1]);
      const e = list[j - 1] + f * (list[j] - list[j - 1]);
      const flip = now.k > 150;
      parts.push(svg("circle", { class: "here", cx: x(now.k), cy: y(e), r: 5.5 }),
        svg("text", { class: "strong halo", x: x(now.k) + (flip ? -10 : 10), y: e > 0.3 * most ? y(e) + 17 : y(e) - 9, "text-anchor": flip ? "end" : "start" }, "you are here"));
    }
    set(curvePlot, { width: w, height: h, viewBox: `0 0 ${w} ${h}`, style: `height:${h}px` });
    curvePlot.replaceChildren(...parts);
    honest.textContent = now.crowd === "noise"
      ? `Measured in this page, ${TRIALS} creatures a point. Random patterns overlap by ${nice(1 / SIDE)}: here n\u00a0=\u00a02 does break near 0.14\u00a0D.`
      : `Measured in this page, ${TRIALS} creatures a point. Creatures look alike (overlap ${nice(SPRITE_LIKENESS)}, random patterns ${nice(1 / SIDE)}), so n\u00a0=\u00a02 breaks far below 0.14\u00a0D, and n\u00a0=\u00a03 breaks as well.`;
  }

  // --- doing it ------------------------------------------------------------------------------
  function compute() {
    result = experiment(now, edits);
  }

  function controls() {
    kSlider.show(now.k);
    noiseSlider.show(now.noise);
    nChoice.show(now.n);
    crowdChoice.show(now.crowd);
  }

  const say = () => ui.say(...tell(result, now));

  /** The answer at once, for a hand that is on a slider or a brush. */
  function instant() {
    halt();
    compute();
    moment = 1;
    drawCue();
    drawRun();
    drawCurve();
    fillCurves();
    life.later(say, 120);
  }

  /** The answer as a film. */
  function play(after = null, milliseconds = 1900) {
    halt();
    compute();
    controls();
    drawCue();
    drawCurve();
    fillCurves();
    life.film(milliseconds, (t) => {
      moment = t;
      drawRun();
    }, say, after);
  }

  // --- hands ---------------------------------------------------------------------------------
  const spot = { x: 11, y: 11 };
  function stroke(x, y) {
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const [px, py] = [x + dx, y + dy];
        if (px < 0 || py < 0 || px >= SIDE || py >= SIDE) continue;
        edits[py * SIDE + px] = brushMode === "erase" ? 1 : 2;
      }
    }
  }
  let last = null;
  cueBox.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    cueBox.setPointerCapture(event.pointerId);
    last = null;
    rub(event);
  });
  cueBox.addEventListener("pointermove", (event) => { if (cueBox.hasPointerCapture(event.pointerId)) rub(event); });
  function rub(event) {
    const box = cueCanvas.getBoundingClientRect();
    const at = [event.clientX - box.left, event.clientY - box.top].map((v, d) => Math.floor((v / (d ? box.height : box.width)) * SIDE));
    const from = last ?? at;
    const count = Math.max(1, Math.abs(at[0] - from[0]), Math.abs(at[1] - from[1]));
    for (let s = 0; s <= count; s++) stroke(...from.map((v, d) => Math.round(v + ((at[d] - v) * s) / count)));
    last = at;
    touched();
    instant();
  }
  cueCanvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      spot.x = clamp(spot.x + way[0], 1, SIDE - 2);
      spot.y = clamp(spot.y + way[1], 1, SIDE - 2);
      placeBrush();
    } else if (event.key === " " || event.key === "Enter") {
      stroke(spot.x, spot.y);
      touched();
      instant();
    } else return;
    event.preventDefault();
  });
  function placeBrush() {
    const inside = (v) => `calc(5px + ${(v - 1) / SIDE} * (100% - 10px))`;
    brush.style.cssText = `left:${inside(spot.x)};top:${inside(spot.y)};width:calc(.125 * (100% - 10px));height:calc(.125 * (100% - 10px))`;
  }

  const kSlider = slider({ name: "k", label: "K, memories stored", min: 1, max: MOST, step: 1, value: now.k, format: (v) => String(v),
    input: (v) => { now.k = v; touched(); instant(); } });
  const noiseSlider = slider({ name: "noise", label: "Pixels flipped in the cue", min: 0, max: 60, step: 1, value: now.noise, format: (v) => `${v} %`,
    input: (v) => { now.noise = v; touched(); instant(); } });
  const nChoice = choice({ name: "n", label: "n, how sharp", options: RULES.map((n) => [n, n]), value: now.n,
    input: (v) => { now.n = v; touched(); play(null, 1200); } });
  const crowdChoice = choice({ name: "crowd", label: "Stored with it", options: [["creatures", "other creatures"], ["noise", "random patterns"]], value: now.crowd,
    input: (v) => { now.crowd = v; touched(); play(null, 1200); } });
  axis.append(kSlider.root);
  ui.controls.append(nChoice.root, crowdChoice.root, noiseSlider.root);
  const brushChoice = choice({ name: "brush", label: "", options: [["erase", "brush erases"], ["flip", "flips"]], value: brushMode, input: (v) => { brushMode = v; } });
  brushChoice.root.setAttribute("aria-label", "Brush on the cue");
  ui.row.append(
    node("button", { type: "button", class: "amx-push", onclick: () => { touched(); play(); } }, "Recall again"),
    node("button", { type: "button", class: "amx-push", onclick: () => { now.who = (now.who % MOST) + 1; edits = new Int8Array(D); touched(); play(); } }, "Next creature"),
    node("button", { type: "button", class: "amx-push", onclick: () => { edits = new Int8Array(D); now.noise = 0; controls(); touched(); instant(); } }, "Clean cue"),
    brushChoice.root);

  const show = (settings) => () => life.show({ ...INITIAL, ...settings });
  tries(ui.hint, "Drag over the cue to spoil it; slide K and watch the face. Or try", [
    ["the limit of 0.14 D", show({ crowd: "noise", k: 100 })], ["n = 3 at the same place", show({ crowd: "noise", k: 100, n: "3" })],
    ["a negative", show({ k: 5, noise: 60 })], ["a swap", show({ n: "exp", k: 200, noise: 45 })]]);

  const ASKED = { ...INITIAL, k: 20 };
  life.ask({
    asked: ASKED,
    question: `${SPRITE_NAMES[ASKED.who - 1]} came back from among six creatures. Now twenty are stored. Will n\u00a0=\u00a02 survive?`,
    answers: [["yes", "Yes, it comes back"], ["no", "No, something else comes"]],
    reply: (key) => {
      const lost = experiment(ASKED).found.kind !== "right";
      const kept = experiment({ ...ASKED, n: "3" }).found.kind === "right";
      const verdict = (key === "no") === lost ? "You saw it coming. " : "";
      return `${verdict}With n\u00a0=\u00a02 it ${lost ? "was lost, and nothing faded: something else came, just as sharp" : "survived"}. With n\u00a0=\u00a03 the same cue ${kept ? "brings every pixel back" : "fails too"}.`;
    },
    answer(done) {
      play(() => {
        const pause = reducedMotion() ? 0 : 2600;
        const wait = setTimeout(() => {
          now.n = "3";
          play(done);
        }, pause);
        life.running(() => clearTimeout(wait));
      }, 2400);
    },
  });

  readPalette();
  placeBrush();
  compute();
  moment = 0;
  drawCue();
  drawRun();
  drawCurve();
  const draw = () => {
    readPalette();
    drawCue();
    drawRun();
    drawCurve();
  };
  return {
    ...life.open({ draw, seen: ui.stage, close: () => clearTimeout(queue) }),
    /** Resolves when every curve of the present settings has been measured. */
    measured: () => new Promise((resolve) => {
      const look = () => (RULES.every((n) => curves.has(key(n))) ? resolve(true) : setTimeout(look, 20));
      look();
    }),
  };
}

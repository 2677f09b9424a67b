import {
  clamp,
  colours,
  join,
  nice,
  node,
  numberFrom,
  numbersFrom,
  pen,
  push,
  random,
  svg,
} from "./common.js";
import { Plane, memoryGrips } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// The lottery. It must teach: a sample ends at the memory that is nearest to its first noise, and
// from far away only the outermost memories are ever nearest.
//
//   z <- z - eta * 2 (z - sum_mu p_mu xi_mu),   p = softmax_mu(-beta |z - xi_mu|^2),   beta = 30

const NAMES = "ABCDEF";
const START = [
  [0.95, 0.3],
  [0.25, 0.97],
  [-0.85, 0.53],
  [-0.75, -0.66],
  [0.5, -0.87],
  [0.05, 0.05],
];
const INITIAL = { sigma: 1, m: START };
const SIGMAS = [0.2, 10];
const SAMPLES = 4000;
const SHOWN = 500;
const STEPS = 60;
const BETA = 30;
const ETA = 0.05;

/** Index of the nearest memory; of two that are equally near, the first. */
export function winner([x, y], memories) {
  let [best, at] = [Infinity, 0];
  for (let i = 0; i < memories.length; i++) {
    const gap = (x - memories[i][0]) ** 2 + (y - memories[i][1]) ** 2;
    if (gap < best) [best, at] = [gap, i];
  }
  return at;
}

/** One step downhill on EM's energy. */
export function step([x, y], memories, beta = BETA, eta = ETA) {
  const gaps = memories.map(([a, b]) => (x - a) ** 2 + (y - b) ** 2);
  const least = Math.min(...gaps);
  let [sum, mx, my] = [0, 0, 0];
  memories.forEach(([a, b], i) => {
    const pull = Math.exp(-beta * (gaps[i] - least));
    sum += pull;
    mx += pull * a;
    my += pull * b;
  });
  return [x - 2 * eta * (x - mx / sum), y - 2 * eta * (y - my / sum)];
}

/** Standard normal points, always the same ones. */
export function noise(count = SAMPLES) {
  const dice = random(15);
  return Array.from({ length: count }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - dice())), 2 * Math.PI * dice()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const UNIT = noise();

/** Share of the samples that end at each memory. */
export function shares(memories, sigma) {
  const counts = memories.map(() => 0);
  const near = memories.map(([x, y]) => [x / sigma, y / sigma]);
  for (const z of UNIT) counts[winner(z, near)]++;
  return counts.map((c) => c / UNIT.length);
}

/**
 * Which memories are corners of the whole: their cells have no end, and very wide noise draws them alone.
 * Seen from a corner all others lie within less than half a turn.
 */
export function corners(memories) {
  return memories.map(([x, y]) => {
    const others = memories.filter(([a, b]) => a !== x || b !== y);
    const turns = others.map(([a, b]) => Math.atan2(b - y, a - x)).sort((p, q) => p - q);
    if (turns.length < 2) return true;
    const gaps = turns.map((turn, i) => (i ? turn - turns[i - 1] : turn + 2 * Math.PI - turns.at(-1)));
    return Math.max(...gaps) > Math.PI + 1e-9;
  });
}

/**
 * The exact borders inside a rectangle: [[i, j, [x, y], [x, y]], ...], i < j, each a piece of the line on
 * which memories i and j are equally near and all others farther. A cell is the rectangle, cut by the line
 * between its memory and each other one.
 */
export function borders(memories, [x0, x1], [y0, y1]) {
  const found = [];
  const frame = [
    [x0, y0],
    [x1, y0],
    [x1, y1],
    [x0, y1],
  ];
  memories.forEach((mine, i) => {
    let cell = frame.map((at) => ({ at, next: -1 })); // `next`: whose border the side after it is
    memories.forEach((other, j) => {
      const equal = mine[0] === other[0] && mine[1] === other[1];
      if (j !== i && !equal) cell = cut(cell, mine, other, j);
    });
    cell.forEach(({ at, next }, k) => {
      if (next > i) found.push([i, next, at, cell[(k + 1) % cell.length].at]);
    });
  });
  return found;
}

/** What is left of a polygon where `mine` is nearer than `other`; the new side belongs to j. */
function cut(cell, mine, other, j) {
  const excess = ([x, y]) =>
    (x - mine[0]) ** 2 + (y - mine[1]) ** 2 - (x - other[0]) ** 2 - (y - other[1]) ** 2;
  const left = [];
  cell.forEach(({ at, next }, k) => {
    const to = cell[(k + 1) % cell.length].at;
    const [a, b] = [excess(at), excess(to)];
    const f = a / (a - b);
    const crossing = [at[0] + f * (to[0] - at[0]), at[1] + f * (to[1] - at[1])];
    if (a <= 0) left.push({ at, next });
    if (a <= 0 && b > 0) left.push({ at: crossing, next: j });
    if (a > 0 && b <= 0) left.push({ at: crossing, next });
  });
  return left;
}

export function settingsFrom(given) {
  const list = numbersFrom(given.m) ?? [];
  const good = list.length === 12 && list.every((v) => Number.isFinite(v) && Math.abs(v) <= 1.5);
  return {
    sigma: numberFrom(given.sigma, ...SIGMAS, INITIAL.sigma),
    m: START.map((p, i) => (good ? [list[2 * i], list[2 * i + 1]] : [...p])),
  };
}

function percent(q) {
  if (q === 0) return "never";
  return q < 0.01 ? `${(100 * q).toFixed(1)} %` : `${Math.round(100 * q)} %`;
}

/** What the lottery does, in words: [lead, rest, kind]. */
export function tell(memories, sigma) {
  const found = shares(memories, sigma);
  const corner = corners(memories);
  const most = found.indexOf(Math.max(...found));
  const lead = `${NAMES[most]} is drawn most often, in ${percent(found[most])} of the samples.`;
  const missing = [...NAMES].filter((_, i) => found[i] === 0);
  if (missing.length) {
    const who = join(missing);
    return [lead, `No sample ends at ${who}: wherever one started, another memory was nearer.`, "bad"];
  }
  if (!corner[most]) {
    const why = `Its cell has borders on all sides, and this noise is narrow enough to start inside.`;
    return [lead, `${why} Turn σ up: wider noise starts outside more and more often.`, ""];
  }
  const inner = [...NAMES].filter((_, i) => !corner[i]);
  if (inner.length) {
    const each = inner.map((n) => `${n} (${percent(found[NAMES.indexOf(n)])})`);
    const cells = inner.length === 1 ? "has a small cell with borders on all sides" : "have closed cells";
    const rest = `${join(each)} ${cells}. The others' cells have no end, and wide noise finds those.`;
    return [lead, rest, ""];
  }
  return [lead, "Every memory's cell goes on for ever, so wide noise finds each of them.", "good"];
}

const STYLE_LOTTERY = `
.amx-lottery .board {
  display: grid; grid-template-columns: minmax(0, 1.6fr) minmax(9rem, 1fr); gap: 1.2rem; align-items: center;
}
.amx-lottery .plot {
  position: relative; aspect-ratio: 1.15; overflow: hidden; border: 1px solid var(--amx-line);
  border-radius: 8px;
}
.amx-lottery .plot > * { position: absolute; inset: 0; height: 100%; }
.amx-lottery .border { stroke: var(--amx-muted); stroke-width: 1.5; fill: none; }
.amx-lottery .memory { cursor: grab; touch-action: none; }
.amx-lottery .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-lottery .memory text {
  fill: var(--amx-paper); font-weight: 700; text-anchor: middle; font-size: 11px; pointer-events: none;
}
.amx-lottery .bars {
  display: grid; grid-template-columns: auto 1fr 3.4rem; gap: .45rem .5rem; align-items: center;
}
.amx-lottery .bars u {
  display: block; height: 10px; border-radius: 5px; background: var(--amx-soft); text-decoration: none;
}
.amx-lottery .bars i {
  display: block; height: 100%; width: 0; border-radius: 5px; background: var(--amx-memory);
}
.amx-lottery .bars em {
  font-style: normal; font-size: .86rem; text-align: right; font-variant-numeric: tabular-nums;
}
.amx-lottery .small { font-size: .86rem; color: var(--amx-muted); margin-bottom: .6rem; }
@media (max-width: 480px) { .amx-lottery .board { grid-template-columns: 1fr; } }
`;

class Lottery extends Explorable {
  constructor(life) {
    super(life);
    this.moment = 0; // how many steps down are shown
    this.plane = new Plane([-1.5, 1.5], [-1.5, 1.5]);
    const label = "Starts of samples; lines part the places that belong to different memories";
    this.land = node("canvas", { role: "img", "aria-label": label });
    this.border = svg("path", { class: "border" });
    this.over = svg("svg", {}, this.border);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.pegs = memoryGrips(this, NAMES, { plane: this.plane, over: this.over });
    const bars = node("div", { class: "bars", "aria-hidden": "true" });
    this.rows = START.map((_, i) => {
      const [bar, share] = [node("i"), node("em")];
      bars.append(node("b", {}, NAMES[i]), node("u", {}, bar), share);
      return { bar, share };
    });
    const side = node("div", {}, node("p", { class: "small" }, "Where 4 000 samples end"), bars);
    life.ui.stage.append(node("div", { class: "board" }, this.plot, side));
  }

  /** Every dot at its start. */
  compute() {
    const { sigma } = this.now;
    this.moment = 0;
    this.starts = UNIT.slice(0, SHOWN).map(([x, y]) => [sigma * x, sigma * y]);
    this.dots = this.starts;
    this.count();
  }

  /** All dots some steps down. */
  seek(t) {
    for (; this.moment < Math.floor(STEPS * t); this.moment++) {
      this.dots = this.dots.map((z) => step(z, this.now.m));
    }
  }

  count() {
    this.found = shares(this.now.m, this.now.sigma);
    this.rows.forEach(({ bar, share }, i) => {
      bar.style.width = `${(100 * this.found[i]).toFixed(1)}%`;
      share.textContent = percent(this.found[i]);
    });
  }

  draw() {
    const { ui, now } = this;
    if (!this.plane.resize(this.plot)) return;
    const { plane } = this;
    const tall = 1.5 * clamp(now.sigma, 1, 3);
    const wide = (tall * plane.w) / plane.h;
    Object.assign(plane, { x0: -wide, x1: wide, y0: -tall, y1: tall });
    this.over.setAttribute("viewBox", `0 0 ${plane.w} ${plane.h}`);
    const pieces = borders(now.m, [-wide, wide], [-tall, tall]);
    const path = pieces.map(([, , p, q]) => `M${plane.to(p).join(",")}L${plane.to(q).join(",")}`);
    this.border.setAttribute("d", path.join(""));
    this.pegs.forEach((peg, i) => peg.show(plane, now.m[i]));
    const context = pen(this.land, plane.w, plane.h);
    context.fillStyle = colours(ui.root).query;
    context.globalAlpha = this.moment ? 0.35 : 0.75;
    this.scatter(context, this.starts);
    context.globalAlpha = 0.75;
    if (this.moment) this.scatter(context, this.dots);
    context.globalAlpha = 1;
  }

  scatter(context, places) {
    context.beginPath();
    for (const [x, y] of places.map((z) => this.plane.to(z))) {
      context.moveTo(x + 2, y);
      context.arc(x, y, 2, 0, 7);
    }
    context.fill();
  }

  told() {
    return tell(this.now.m, this.now.sigma);
  }

  pace() {
    return 2200;
  }

  /** The starts and their counts: they say all, before anything went down. */
  instant() {
    this.show(0);
    this.say();
  }

  controls() {
    const { ui } = this;
    const width = this.slide("sigma", {
      label: "width σ of the noise (1: as far out as the memories)",
      ...{ min: SIGMAS[0], max: SIGMAS[1], log: true, format: (v) => nice(v) },
    });
    ui.controls.append(width);
    ui.row.append(push("Let them go downhill", () => this.play()));
    const inside = START.map(([x, y], i) => (i === 0 ? [0.4 * x, 0.4 * y] : [x, y]));
    this.visits("Drag the memories. Or try", [
      ["noise from far away", { sigma: 10 }],
      ["one short memory more", { sigma: 3, m: inside }],
      ["one long memory", { sigma: 3, m: [[1.45, 0.4], ...START.slice(1)] }],
    ]);
  }

  question() {
    const why =
      "F is nearest only in a small cell around the middle, and wide noise hardly ever starts there. " +
      "The others have wedges that never end.";
    return {
      question:
        "F lies in the middle of the others. The noise gets ten times wider. " +
        "Will F be drawn more often, or less?",
      answers: [
        ["more", "More often"],
        ["less", "Less often"],
      ],
      reply: (key) => `${key === "less" ? "Yes, less often." : "Less often."} ${why}`,
      asked: INITIAL,
      answer: (done) => this.widen(done),
    };
  }

  /** The answer: the noise gets ten times wider, and the bars follow. */
  widen(done) {
    const grow = (t) => (this.now.sigma = Number((INITIAL.sigma * 10 ** t).toPrecision(3)));
    this.vary(grow, done, { at: 0 });
  }

  state() {
    return { shares: this.found, steps: this.moment };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Lottery, element, options, {
    name: "lottery",
    title: "The lottery",
    label: "Explorable: six memories in the plane and the noise from which samples start",
    ...{ style: STYLE_LOTTERY, start: INITIAL, settingsFrom },
    shared: ({ sigma, m }) => ({ sigma, m: m.flat() }),
  });
}

import {
  colours,
  join,
  nice,
  node,
  numberFrom,
  numbersFrom,
  pen,
  push,
  reducedMotion,
  rgb,
  set,
  svg,
} from "./common.js";
import { Plane, contourPath, field, memoryGrips } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Basins and cells. It must teach: where a point ends is not always the memory that it was nearest to;
// the wrong places sit where three cells meet, and shrink as beta grows.
//
//   x <- softmax_mu(-beta/2 |x - xi_mu|^2) Xi, ten times; then the nearest memory

const WIDE = 1.6; // the picture shows -WIDE..WIDE by -TALL..TALL
const TALL = 1.2;
const NX = 160; // places that are asked, and that the picture paints
const NY = 120;
const STEPS = 10;
const BRIEF = 2; // milliseconds of steps a frame, while a hand waits
const NAMES = "ABCDEF";
const START = [
  [-1.05, 0.5],
  [-0.15, 0.85],
  [0.85, 0.55],
  [-0.55, -0.35],
  [0.4, -0.15],
  [0.75, -0.85],
];
const INITIAL = { beta: 5, m: START };
const BETAS = [0.5, 100];

/** Squared distances of a place to each memory, into `gaps`; returns which is the first least. */
function measured(gaps, x, y, memories) {
  let at = 0;
  for (let i = 0; i < memories.length; i++) {
    const [a, b] = [x - memories[i][0], y - memories[i][1]];
    gaps[i] = a * a + b * b;
    if (gaps[i] < gaps[at]) at = i;
  }
  return at;
}

/** One full step from many places, { x, y }: to the mean of the memories under their weights there. */
function stepAll({ x, y }, memories, beta) {
  const to = { x: new Float64Array(x.length), y: new Float64Array(x.length) };
  const gaps = new Float64Array(memories.length);
  for (let p = 0; p < x.length; p++) {
    const least = gaps[measured(gaps, x[p], y[p], memories)];
    let [sum, mx, my] = [0, 0, 0];
    for (let i = 0; i < gaps.length; i++) {
      const pull = Math.exp(-0.5 * beta * (gaps[i] - least));
      sum += pull;
      mx += pull * memories[i][0];
      my += pull * memories[i][1];
    }
    [to.x[p], to.y[p]] = [mx / sum, my / sum];
  }
  return to;
}

/** One full step from one place. */
export function step([x, y], memories, beta) {
  const to = stepAll({ x: [x], y: [y] }, memories, beta);
  return [to.x[0], to.y[0]];
}

/** For each place the memory nearest to it. */
function nearestAll({ x, y }, memories) {
  const gaps = new Float64Array(memories.length);
  return Uint8Array.from(x, (_, p) => measured(gaps, x[p], y[p], memories));
}

/** The places that are asked, row by row from the upper left. */
export function places() {
  const { xs, ys } = new Plane([-WIDE, WIDE], [-TALL, TALL]).cells(NX, NY);
  return Array.from({ length: NX * NY }, (_, p) => [xs[p % NX], ys[Math.floor(p / NX)]]);
}

const GRID = {
  x: Float64Array.from(places(), ([x]) => x),
  y: Float64Array.from(places(), ([, y]) => y),
};

/** Where every place ends, the share that ends at its nearest memory, and who takes any. */
export function measure(memories, beta, steps = STEPS) {
  let ends = GRID;
  for (let t = 0; t < steps; t++) ends = stepAll(ends, memories, beta);
  return summary(ends, memories);
}

function summary(ends, memories) {
  const basin = nearestAll(ends, memories);
  const cell = nearestAll(GRID, memories);
  const agree = basin.reduce((sum, b, p) => sum + (b === cell[p] ? 1 : 0), 0);
  const owners = memories.map((_, i) => i).filter((i) => basin.includes(i));
  return { basin, cell, owners, agreement: agree / basin.length };
}

export function settingsFrom(given) {
  const list = numbersFrom(given.m) ?? [];
  const fits = (v, i) => Number.isFinite(v) && Math.abs(v) <= (i % 2 ? TALL : WIDE);
  const good = list.length === 12 && list.every(fits);
  return {
    beta: numberFrom(given.beta, ...BETAS, INITIAL.beta),
    m: START.map((p, i) => (good ? [list[2 * i], list[2 * i + 1]] : [...p])),
  };
}

/** "98.7 %", never rounded up to all of it. */
export function percent(q) {
  const digits = q > 0.99 ? 2 : q > 0.9 ? 1 : 0;
  const scale = 10 ** digits;
  const text = (q < 1 ? Math.min(Math.round(100 * q * scale), 100 * scale - 1) : 100 * scale) / scale;
  return `${text.toFixed(digits)} %`;
}

/** What the map shows, in words: [lead, rest, kind]. */
export function tell({ agreement, owners }, count = NAMES.length) {
  const share = percent(agreement);
  if (owners.length === 1) {
    const rest = `Every place ends at one bottom; ${NAMES[owners[0]]}, nearest to it, answers for all. `;
    return ["One valley.", `${rest}Agreement is the area of its cell, ${share}.`, "bad"];
  }
  const silent = [...NAMES].slice(0, count).filter((_, i) => !owners.includes(i));
  if (silent.length) {
    const whom = `${join(silent)} ${silent.length > 1 ? "have no valleys" : "has no valley"} of their own`;
    const rest = `${silent.length > 1 ? whom : whom.replace("their", "its")}: others answer there.`;
    return [`${share} of the picture agrees.`, rest, "bad"];
  }
  if (agreement >= 0.995) {
    return [`${share} of the picture agrees.`, "Basins are cells, as far as an eye can see.", "good"];
  }
  return [`${share} of the picture agrees.`, "What is wrong sits where three cells meet.", ""];
}

const STYLE_CELLS = `
.amx-cells .plot {
  position: relative; aspect-ratio: ${WIDE} / ${TALL}; border-radius: 8px; overflow: hidden;
  border: 1px solid var(--amx-line); max-width: 560px; margin: 0 auto;
}
.amx-cells .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-cells .memory { cursor: grab; touch-action: none; }
.amx-cells .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-cells .memory text {
  fill: var(--amx-paper); font-weight: 700; text-anchor: middle; font-size: 11px; pointer-events: none;
}
.amx-cells .line { display: flex; justify-content: space-between; gap: .3rem 1rem; flex-wrap: wrap; }
.amx-cells .number { font-weight: 650; font-variant-numeric: tabular-nums; }
.amx-cells .small { color: var(--amx-muted); font-size: .86rem; margin-top: .4rem; }
.amx-cells .small i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
.amx-cells .small .off { background: var(--amx-wrong); }
`;

class Cells extends Explorable {
  constructor(life) {
    super(life);
    this.moment = 0; // how many steps are shown
    this.plane = new Plane([-WIDE, WIDE], [-TALL, TALL]);
    this.land = node("canvas", { role: "img" });
    this.over = svg("svg", {});
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.pegs = memoryGrips(this, NAMES, { plane: this.plane, over: this.over });
    this.number = node("p", { class: "number" });
    const key = node("p", { class: "small" }, "Shades: basins. Lines: borders of cells. ");
    key.append(node("i", { class: "off", "aria-hidden": "true" }), " ends elsewhere than at its nearest");
    life.ui.stage.append(this.plot, node("div", { class: "line" }, key, this.number));
  }

  compute() {
    [this.moment, this.ends, this.found] = [0, GRID, null];
  }

  /** All places after some of the steps. */
  seek(t) {
    const { m, beta } = this.now;
    const steps = Math.floor(STEPS * t + 1e-9);
    if (this.found && steps === this.moment) return;
    for (; this.moment < steps; this.moment++) this.ends = stepAll(this.ends, m, beta);
    this.found = summary(this.ends, m);
    const after = this.moment < STEPS ? `after ${this.moment} of ${STEPS} steps: ` : "agreement: ";
    this.number.textContent = `${after}${percent(this.found.agreement)}`;
    this.land.setAttribute("aria-label", `Map of basins, ${this.number.textContent}`);
  }

  /** A few steps more, as many as a frame allows; whether they are all taken. */
  some() {
    const began = performance.now();
    while (this.moment < STEPS && performance.now() - began < BRIEF) this.seek((this.moment + 1) / STEPS);
    return this.moment === STEPS;
  }

  instant() {
    this.gradually(() => this.some());
  }

  frame() {
    if (this.drawn !== this.moment) this.draw();
  }

  draw() {
    this.drawn = this.moment;
    if (!this.plane.resize(this.plot)) return;
    const { ui, now } = this;
    const { w, h } = this.plane;
    const c = colours(ui.root);
    const context = pen(this.land, w, h);
    this.paint(context, c);
    Object.assign(context, { strokeStyle: c.ink, lineWidth: 1.2, globalAlpha: 0.8 });
    context.stroke(this.fences(now.m));
    context.globalAlpha = 1;
    this.over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    this.pegs.forEach((peg, i) => peg.show(this.plane, now.m[i]));
  }

  /** The borders of the cells move with the memories alone. */
  fences(memories) {
    const { w, h } = this.plane;
    const key = [w, h, memories].join();
    if (this.fenced !== key) {
      this.borders = new Path2D();
      for (const grid of fences(memories)) this.borders.addPath(contourPath(grid, [0], { w, h }));
    }
    this.fenced = key;
    return this.borders;
  }

  /** One picture element a place: shades of memory blue for basins, red where basin and cell differ. */
  paint(context, c) {
    const { basin, cell } = this.found;
    const small = set(document.createElement("canvas"), { width: NX, height: NY });
    const sheet = small.getContext("2d");
    const image = sheet.createImageData(NX, NY);
    const [deep, flat, wrong] = [rgb(c.memory), rgb(c.paper), rgb(c.wrong)];
    for (let p = 0; p < basin.length; p++) {
      const part = basin[p] === cell[p] ? 0.1 + 0.09 * ((basin[p] * 5) % 6) : 0.85;
      const ink = basin[p] === cell[p] ? deep : wrong;
      for (let d = 0; d < 3; d++) image.data[4 * p + d] = flat[d] + part * (ink[d] - flat[d]);
      image.data[4 * p + 3] = 255;
    }
    sheet.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, this.plane.w, this.plane.h);
  }

  told() {
    return tell(this.found);
  }

  controls() {
    const { ui } = this;
    const sharp = this.slide("beta", {
      label: "β, how sharp",
      ...{ min: BETAS[0], max: BETAS[1], log: true },
      format: (v) => nice(v, v < 10 ? 2 : 1),
    });
    ui.controls.append(sharp);
    ui.row.append(push("Take the ten steps again", () => this.play()));
    const crowd = START.map(([x, y], i) => (i === 4 ? [-0.35, -0.05] : [x, y]));
    this.visits("Drag the memories. Or try", [
      ["one valley", { beta: 1 }],
      ["two that are close", { beta: 12, m: crowd }],
      ["sharp", { beta: 100 }],
    ]);
  }

  question() {
    const why = "The votes of a third memory die out like an exponential. What is left shrinks into corners.";
    return {
      question:
        "Red places end elsewhere than at their nearest memory. Now β goes up to 100. What will they do?",
      answers: [
        ["corners", "Shrink into corners"],
        ["borders", "Line every border"],
      ],
      reply: (key) => `${key === "corners" ? "Yes, into corners." : "Into corners."} ${why}`,
      asked: INITIAL,
      answer: (done) => this.sharpen(done),
    };
  }

  /** The answer: beta rises, and the end of the ten steps follows, each as soon as it is there. */
  sharpen(done) {
    const { now } = this;
    const began = performance.now();
    const frame = () => {
      if (!this.some()) return false;
      this.draw();
      if (now.beta === 100) return true;
      const t = reducedMotion() ? 1 : Math.min(1, (performance.now() - began) / 2600);
      now.beta = Number((INITIAL.beta * (100 / INITIAL.beta) ** t).toPrecision(3));
      this.compute();
      this.showHands();
      return false;
    };
    this.compute();
    this.life.steps(frame, () => this.say(), done);
  }

  state() {
    // Where settings have just changed, nothing is found yet.
    const { agreement, owners } = this.found ?? summary(this.ends, this.now.m);
    return { agreement, owners, steps: this.moment };
  }
}

/** For every memory a field that is zero on the border of its cell: its distance against the least other. */
function fences(memories) {
  const values = memories.map(() => new Float64Array(NX * NY));
  const gaps = new Float64Array(memories.length);
  for (let p = 0; p < NX * NY; p++) {
    const first = measured(gaps, GRID.x[p], GRID.y[p], memories);
    let second = Infinity;
    for (let i = 0; i < gaps.length; i++) if (i !== first && gaps[i] < second) second = gaps[i];
    values.forEach((all, i) => (all[p] = gaps[i] - (i === first ? second : gaps[first])));
  }
  return values.map((all) => field(all, NX, NY));
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Cells, element, options, {
    name: "cells",
    title: "Basins and cells",
    label: "Explorable: where each place ends, against the memory that it is nearest to",
    ...{ style: STYLE_CELLS, start: INITIAL, settingsFrom },
    shared: ({ beta, m }) => ({ beta, m: m.flat() }),
  });
}

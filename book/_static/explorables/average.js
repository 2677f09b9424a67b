import {
  clamp,
  colours,
  draggable,
  join,
  line,
  nice,
  node,
  numberFrom,
  numbersFrom,
  pen,
  random,
  svg,
} from "./common.js";
import { Plane, contours, field, grip, heat } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// From average to memory. It must teach: between one average of everything and single memories
// lies a middle in which clusters are remembered and their members are not; beta decides.
//
//   E(x) = -(1/beta) log sum_mu exp(-beta/2 |x - xi_mu|^2)
//   one step of descent with step size 1:   x <- softmax_mu(-beta/2 |x - xi_mu|^2) Xi

const WIDE = 1.5; // the picture shows -WIDE..WIDE by -TALL..TALL
const TALL = 1.1;
const NAMES = "ABCDEF";
const TRIO = [90, 210, 330].map((angle) => [
  Number((-0.8 + 0.3 * Math.cos((angle * Math.PI) / 180)).toFixed(3)),
  Number((0.3 + 0.3 * Math.sin((angle * Math.PI) / 180)).toFixed(3)),
]);
const INITIAL = { beta: 60, q: [-0.2, -0.25], m: [...TRIO, [0.52, 0.62], [0.92, 0.38], [0.2, -0.72]] };
const BETAS = [0.5, 100];

/** The weights with which the memories pull at x: softmax of -beta/2 |x - xi|^2. */
export function weights(x, memories, beta) {
  const exponents = memories.map((m) => -0.5 * beta * ((x[0] - m[0]) ** 2 + (x[1] - m[1]) ** 2));
  const top = Math.max(...exponents);
  const raw = exponents.map((e) => Math.exp(e - top));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** The energy at x; the largest exponent is taken out of the sum. */
export function energy([x, y], memories, beta) {
  let least = Infinity; // squared distance of the nearest memory
  for (let i = 0; i < memories.length; i++) {
    const gap = (x - memories[i][0]) ** 2 + (y - memories[i][1]) ** 2;
    if (gap < least) least = gap;
  }
  let sum = 0;
  for (let i = 0; i < memories.length; i++) {
    const gap = (x - memories[i][0]) ** 2 + (y - memories[i][1]) ** 2;
    sum += Math.exp(-0.5 * beta * (gap - least));
  }
  return 0.5 * least - Math.log(sum) / beta;
}

/** One closed-form step: the mean of the memories under their weights at x. */
export function step(x, memories, beta) {
  const w = weights(x, memories, beta);
  return [0, 1].map((d) => w.reduce((sum, wi, i) => sum + wi * memories[i][d], 0));
}

/** dE/dx = x - step(x). */
export function gradient(x, memories, beta) {
  const to = step(x, memories, beta);
  return [x[0] - to[0], x[1] - to[1]];
}

/**
 * Slope and second derivatives [gx, gy, xx, xy, yy] at x in one pass: the latter are the identity minus
 * beta times the spread of the pull.
 */
function local(x, memories, beta) {
  const w = weights(x, memories, beta);
  let [cx, cy, xx, xy, yy] = [0, 0, 0, 0, 0];
  for (let i = 0; i < w.length; i++) {
    cx += w[i] * memories[i][0];
    cy += w[i] * memories[i][1];
  }
  for (let i = 0; i < w.length; i++) {
    const [dx, dy] = [memories[i][0] - cx, memories[i][1] - cy];
    xx += w[i] * dx * dx;
    xy += w[i] * dx * dy;
    yy += w[i] * dy * dy;
  }
  return [x[0] - cx, x[1] - cy, 1 - beta * xx, -beta * xy, 1 - beta * yy];
}

/** The second derivatives [xx, xy, yy] of the energy. */
export function curvature(x, memories, beta) {
  return local(x, memories, beta).slice(2);
}

function bowl([xx, xy, yy]) {
  return xx > 0 && xx * yy - xy * xy > 1e-9;
}

/** Follow steps from x until they stop; where the ground is a bowl already, Newton's steps. */
export function settle(x, memories, beta, { steps = 400, tolerance = 1e-10 } = {}) {
  let here = local(x, memories, beta);
  for (let t = 0; t < steps; t++) {
    const [gx, gy, xx, xy, yy] = here;
    const size = Math.hypot(gx, gy);
    if (size < tolerance) break;
    const det = xx * yy - xy * xy;
    const newton = [(yy * gx - xy * gy) / det, (xx * gy - xy * gx) / det];
    if (xx > 0 && det > 1e-6 && Math.hypot(...newton) < 0.05) {
      const next = [x[0] - newton[0], x[1] - newton[1]];
      const there = local(next, memories, beta);
      if (Math.hypot(there[0], there[1]) < 0.5 * size) {
        [x, here] = [next, there];
        continue;
      }
    }
    x = [x[0] - gx, x[1] - gy];
    here = local(x, memories, beta);
  }
  return x;
}

/** All valleys: [{x, weights}], from every memory and the middles of pairs, of trios and of all. */
export function valleys(memories, beta) {
  const middle = (list) => [0, 1].map((d) => list.reduce((sum, m) => sum + m[d], 0) / list.length);
  const starts = [...memories, middle(memories)];
  for (let i = 0; i < memories.length; i++) {
    for (let j = i + 1; j < memories.length; j++) {
      starts.push(middle([memories[i], memories[j]]));
      for (let k = j + 1; k < memories.length; k++) {
        starts.push(middle([memories[i], memories[j], memories[k]]));
      }
    }
  }
  const found = [];
  for (const start of starts) {
    const x = settle(start, memories, beta);
    if (Math.hypot(...gradient(x, memories, beta)) > 1e-9) continue; // so flat that it is no valley yet
    if (!bowl(curvature(x, memories, beta))) continue;
    if (found.some((v) => Math.hypot(v.x[0] - x[0], v.x[1] - x[1]) < 1e-3)) continue;
    found.push({ x, weights: weights(x, memories, beta) });
  }
  return found;
}

/** What kind of memory this is: "average", "metastable", "single" or "crowded". */
export function regime(found, count) {
  if (found.length > count) return "crowded";
  if (found.length === 1) return "average";
  const owners = new Set(found.map((v) => v.weights.indexOf(Math.max(...v.weights))));
  const alone = found.every((v) => Math.max(...v.weights) > 0.5);
  return owners.size === count && alone ? "single" : "metastable";
}

const NUMERALS = "no one two three four five six seven eight".split(" ");
const numeral = (n) => NUMERALS[n] ?? String(n);

/** Whose valley it is: the letters of the memories that hold at least a tenth of it. */
function members(valley) {
  return [...NAMES].filter((_, i) => (valley.weights[i] ?? 0) >= 0.1);
}

/** Where a valley lies, in words. */
function placeOf(valley) {
  const most = Math.max(...valley.weights);
  const owner = NAMES[valley.weights.indexOf(most)];
  if (most > 0.97) return `${owner} itself`;
  return most > 0.6 ? `beside ${owner}` : `the average of ${members(valley).join("+")}`;
}

/** The regime's name, and what is remembered, in words: [lead, rest, kind]. */
export function tell(found, memories) {
  const kind = regime(found, memories.length);
  const count = numeral(memories.length);
  const ordered = [...found].sort((a, b) => members(b).length - members(a).length);
  const places = ordered.map(placeOf);
  const listed = places.length > 2 ? `${places.slice(0, -1).join(", ")}, and ${places.at(-1)}` : join(places);
  if (kind === "average") {
    const group = members(ordered[0]);
    const whom = group.length === memories.length ? `all ${count} memories` : join(group);
    const rest = `Every dot ends at the same place, near the mean of ${whom}.`;
    return ["One average.", `${rest} The question does not matter any more.`, ""];
  }
  if (kind === "single") {
    const close = found.every((v) => Math.max(...v.weights) > 0.97);
    const rest = close
      ? "Every dot ends at one of them, and a step or two is enough."
      : "Every dot ends beside one of them, pulled a little towards its neighbours.";
    return [`${count[0].toUpperCase()}${count.slice(1)} single memories.`, rest, "good"];
  }
  if (kind === "crowded") {
    const rest = `${found.length} valleys for ${memories.length} memories: ${listed}.`;
    return [
      "More valleys than memories.",
      `${rest} The middle of a triangle can be a valley of its own.`,
      "bad",
    ];
  }
  const rest = `The dots end at ${listed}. An average is remembered well, and nobody stored it.`;
  return [`Metastable: ${numeral(found.length)} clusters.`, rest, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = INITIAL) {
  const pairs = (list) => Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]);
  const fits = (list) => list.every((v, i) => Number.isFinite(v) && Math.abs(v) <= (i % 2 ? TALL : WIDE));
  const [m, q] = [numbersFrom(given.m), numbersFrom(given.q)];
  return {
    beta: numberFrom(given.beta, ...BETAS, otherwise.beta),
    q: q && q.length === 2 && fits(q) ? q : [...otherwise.q],
    m: m && m.length === 12 && fits(m) ? pairs(m) : otherwise.m.map((p) => [...p]),
  };
}

/** What the address keeps: memories only when they were moved. */
function shared({ beta, q, m }) {
  const moved = m.some((p, i) => p.some((v, d) => v !== INITIAL.m[i][d]));
  return { beta, q, ...(moved ? { m: m.flat() } : {}) };
}

const STYLE_AVERAGE = `
.amx-average .board {
  display: grid; grid-template-columns: minmax(0, 1fr) 200px; gap: 0 1.3rem; align-items: start;
}
.amx-average .plot {
  position: relative; aspect-ratio: ${WIDE} / ${TALL}; border-radius: 8px; overflow: hidden;
  border: 1px solid var(--amx-line);
}
.amx-average .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-average .plot svg { touch-action: pan-y; cursor: crosshair; }
.amx-average .memory, .amx-average .query { cursor: grab; touch-action: none; }
.amx-average .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-average .memory text {
  fill: var(--amx-paper); font-size: 11px; font-weight: 700; text-anchor: middle; pointer-events: none;
}
.amx-average .query .dot { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 2; }
.amx-average .way {
  fill: none; stroke: var(--amx-trajectory); stroke-width: 2.5; stroke-linejoin: round;
}
.amx-average .stops circle { fill: var(--amx-trajectory); stroke: var(--amx-paper); stroke-width: 1; }
.amx-average .valley { fill: none; stroke: var(--amx-energy); stroke-width: 2; }
.amx-average .count {
  font-weight: 600; fill: var(--amx-ink) !important; paint-order: stroke; stroke: var(--amx-paper);
  stroke-width: 3px; stroke-linejoin: round; text-anchor: middle;
}
.amx-average .number { font-size: 1.5rem; font-weight: 650; line-height: 1.15; }
.amx-average .small { color: var(--amx-muted); font-size: .86rem; }
.amx-average .caption { margin-top: .9rem; }
.amx-average .bars {
  display: grid; grid-template-columns: auto 1fr auto; gap: .28rem .5rem; align-items: center;
  margin-top: .5rem; font-size: .86rem;
}
.amx-average .bars i { height: 11px; border-radius: 2px; background: var(--amx-memory); min-width: 1px; }
.amx-average .bars u {
  text-decoration: none; background: var(--amx-soft); border-radius: 2px; display: flex;
}
.amx-average .bars em {
  font-style: normal; font-variant-numeric: tabular-nums; text-align: right; min-width: 2.7em;
}
.amx-average .ribbon {
  display: flex; margin: 0 10px; height: 20px; border-radius: 5px; overflow: hidden; font-size: .76rem;
  line-height: 20px; text-align: center; color: var(--amx-ink);
}
.amx-average .ribbon span {
  background: color-mix(in srgb, var(--amx-energy) var(--depth), var(--amx-soft)); overflow: hidden;
  white-space: nowrap; box-shadow: inset -1px 0 var(--amx-paper);
}
.amx-average .amx-controls { grid-template-columns: 1fr; }
@media (max-width: 620px) {
  .amx-average .board { grid-template-columns: minmax(0, 1fr); gap: .7rem; }
  .amx-average .bars { gap: .12rem .5rem; }
}
`;
const TITLES = {
  average: "one average",
  metastable: "metastable",
  single: "single memories",
  crowded: "one valley too many",
};
const LEVELS = Array.from({ length: 9 }, (_, i) => ((i + 1) / 10) ** 2); // of the contours, low to high
const WITHIN = { x0: 0.06 - WIDE, x1: WIDE - 0.06, y0: 0.06 - TALL, y1: TALL - 0.06 }; // of what hands move
const PATIENCE = 14; // steps that are shown: a dot on flat ground creeps, the rest of its way is skipped

/** Where the small dots start: a shaken grid, always the same. */
const SEEDS = (() => {
  const dice = random(7);
  const shaken = (i, parts, edge) => (-1 + (2 * (i + 0.15 + 0.7 * dice())) / parts) * edge;
  const places = Array.from({ length: 140 }, (_, k) => [k % 14, Math.floor(k / 14)]);
  return places.map(([i, j]) => [shaken(i, 14, WIDE), shaken(j, 10, TALL)]);
})();

/** The places that a dot passes until it rests. */
function flow(x, { m, beta }) {
  const list = [x];
  for (let t = 0; t < 200; t++) {
    const next = step(x, m, beta);
    list.push(next);
    if (Math.hypot(next[0] - x[0], next[1] - x[1]) < 1e-5) break;
    x = next;
  }
  return list;
}

/** Where on its way a dot is after t steps, gently between two of them. */
function along(list, t) {
  const k = Math.min(Math.floor(t), list.length - 1);
  const next = list[Math.min(k + 1, list.length - 1)];
  const f = t - Math.floor(t);
  const ease = f * f * (3 - 2 * f);
  return [0, 1].map((d) => list[k][d] + ease * (next[d] - list[k][d]));
}

class Average extends Explorable {
  constructor(life) {
    super(life);
    this.moment = 0; // how many steps have been shown, with a fraction
    this.arrived = false; // all dots are at rest
    this.plane = new Plane([-WIDE, WIDE], [-TALL, TALL]);
    this.land = node("canvas", { role: "img" });
    this.dots = node("canvas", { "aria-hidden": "true" });
    this.rings = svg("g");
    this.path = svg("path", { class: "way" });
    this.stops = svg("g", { class: "stops" });
    this.over = svg("svg", {}, this.rings, this.path, this.stops);
    this.plot = node("div", { class: "plot" }, this.land, this.dots, this.over);
    this.ui.stage.append(node("div", { class: "board" }, this.plot, this.side()));
    this.pegs = INITIAL.m.map((_, i) => this.peg(i));
    this.query = this.asker();
    this.over.append(...this.pegs.map((peg) => peg.root), this.query.root);
    draggable(
      this.over,
      (event) => this.carry(this.plane.at(event, this.over)),
      () => this.play(),
    );
  }

  /** Beside the picture: how many valleys, and who pulls at the big dot. */
  side() {
    this.number = node("p", { class: "number" });
    this.name = node("p", { class: "small" });
    this.caption = node("p", { class: "small caption" });
    const bars = node("div", { class: "bars", "aria-hidden": "true" });
    this.rows = INITIAL.m.map((_, i) => {
      const [bar, share] = [node("i"), node("em")];
      bars.append(node("b", {}, NAMES[i]), node("u", {}, bar), share);
      return { bar, share };
    });
    return node("div", {}, this.number, this.name, this.caption, bars);
  }

  peg(i) {
    const { now } = this;
    return grip({
      ...{ kind: "memory", label: `Memory ${NAMES[i]}: arrow keys move it`, text: NAMES[i] },
      ...{ plane: this.plane, over: this.over, within: WITHIN },
      at: () => now.m[i],
      put: (spot) => {
        now.m[i] = spot;
        this.turn({}, "wait");
        this.drawRibbon();
      },
      nudged: () => this.life.soon(),
      go: () => this.play(),
    });
  }

  asker() {
    return grip({
      ...{ kind: "query", label: "Chosen query: arrow keys move it, Enter lets it go", radius: 7.5 },
      ...{ plane: this.plane, over: this.over, within: WITHIN },
      at: () => this.now.q,
      put: (spot) => this.carry(spot),
      nudged: () => this.life.soon(),
      go: () => this.play(),
    });
  }

  /** The big dot goes somewhere else. */
  carry(spot) {
    this.turn({ q: inside(spot) }, "wait");
  }

  /** Every dot at its start. */
  compute() {
    const { now } = this;
    this.found = valleys(now.m, now.beta);
    this.way = flow(now.q, now);
    this.flows = null;
    this.arrived = false;
    this.headline();
  }

  drawLand() {
    if (!this.plane.resize(this.plot)) return;
    const { now, ui } = this;
    const { w, h } = this.plane;
    const c = colours(ui.root);
    const [nx, ny] = [Math.round(w / 4), Math.round(h / 4)];
    const { xs, ys } = this.plane.cells(nx, ny);
    const values = Float64Array.from({ length: nx * ny }, (_, p) =>
      energy([xs[p % nx], ys[Math.floor(p / nx)]], now.m, now.beta),
    );
    const grid = field(values, nx, ny);
    const context = pen(this.land, w, h);
    const depth = (share) => 0.56 * (1 - Math.sqrt(share)) ** 1.2;
    heat(context, grid, { w, h, colour: c.energy, paper: c.paper, depth });
    Object.assign(context, { strokeStyle: c.energy, lineWidth: 1, globalAlpha: 0.4 });
    const levels = LEVELS.map((level) => grid.low + (grid.high - grid.low) * level);
    contours(context, grid, levels, { w, h });
    context.globalAlpha = 1;
    this.over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    this.drawRings();
    this.pegs.forEach((peg, i) => peg.show(this.plane, now.m[i]));
  }

  /** How many dots each valley holds, once they have arrived. */
  held() {
    const held = this.found.map(() => 0);
    for (const list of this.arrived ? this.flows : []) {
      const [x, y] = list.at(-1);
      const gaps = this.found.map((v) => Math.hypot(v.x[0] - x, v.x[1] - y));
      held[gaps.indexOf(Math.min(...gaps))]++;
    }
    return held;
  }

  /** Green rings at the valleys, with the numbers of their dots. */
  drawRings() {
    const held = this.held();
    this.rings.replaceChildren();
    this.found.forEach(({ x }, i) => {
      const [cx, cy] = this.plane.to(x);
      this.rings.append(svg("circle", { class: "valley", cx, cy, r: 13 }));
      const y = cy + (cy > this.plane.h - 40 ? -18 : 27);
      if (held[i]) this.rings.append(svg("text", { class: "count", x: cx, y }, `${held[i]}`));
    });
  }

  /** Everything that moves while the dots flow. */
  frame() {
    const { plane, moment } = this;
    if (!plane.w) return;
    const c = colours(this.ui.root);
    const context = pen(this.dots, plane.w, plane.h);
    const flows = moment > 0 ? this.flows : SEEDS.map((seed) => [seed]);
    const ends = flows.map((list) => plane.to(along(list, moment)));
    Object.assign(context, { strokeStyle: c.trajectory, lineWidth: 1, globalAlpha: 0.45 });
    context.beginPath();
    flows.forEach((list, i) => {
      context.moveTo(...plane.to(list[0]));
      for (let k = 1; k <= moment && k < list.length; k++) context.lineTo(...plane.to(list[k]));
      context.lineTo(...ends[i]);
    });
    context.stroke();
    Object.assign(context, { fillStyle: c.query, globalAlpha: 0.95 });
    context.beginPath();
    for (const [x, y] of ends) {
      context.moveTo(x, y);
      context.arc(x, y, 2.7, 0, 7);
    }
    context.fill();
    this.drawQuery();
  }

  drawQuery() {
    const { plane, way } = this;
    const shown = Math.min(Math.floor(this.moment + 1e-9), way.length - 1);
    const here = along(way, this.moment);
    const passed = way.slice(0, shown + 1).map((p) => plane.to(p));
    this.path.setAttribute("d", line([...passed, plane.to(here)]));
    this.stops.replaceChildren(...passed.map(([cx, cy]) => svg("circle", { cx, cy, r: 3.2 })));
    this.query.show(plane, here);
    const rest = shown >= way.length - 1;
    this.caption.textContent = `Pull on the big dot, ${rest ? "at rest" : `step ${shown}`}`;
    const pull = weights(here, this.now.m, this.now.beta);
    this.rows.forEach(({ bar, share }, i) => {
      bar.style.width = `${(100 * pull[i]).toFixed(1)}%`;
      share.textContent = `${Math.round(100 * pull[i])} %`;
    });
  }

  headline() {
    const { m } = this.now;
    this.number.textContent = `${this.found.length} valley${this.found.length > 1 ? "s" : ""}`;
    this.name.textContent = `for ${m.length} memories: ${TITLES[regime(this.found, m.length)]}`;
    const words = `${this.number.textContent} ${this.name.textContent}`;
    this.land.setAttribute("aria-label", `Energy landscape with ${words}`);
  }

  draw() {
    this.drawLand();
    this.frame();
  }

  /** The ways of all dots: long to find, and only a film needs them. */
  ways() {
    if (!this.flows) {
      this.flows = SEEDS.map((seed) => flow(seed, this.now));
      this.last = Math.max(this.way.length, ...this.flows.map((list) => list.length)) - 1;
      this.shown = Math.min(this.last, PATIENCE);
    }
    return this.flows;
  }

  seek(t) {
    if (t > 0) this.ways();
    this.moment = t === 1 ? this.last : t > 0 ? t * this.shown : 0;
  }

  pace() {
    this.ways();
    return 500 + 380 * this.shown;
  }

  play(after) {
    super.play(after);
    this.drawRibbon();
  }

  told() {
    return tell(this.found, this.now.m);
  }

  say() {
    this.arrived = true;
    this.drawRings();
    super.say();
  }

  /** How many valleys there are at each beta, as a strip under the slider; counted beside all else. */
  drawRibbon() {
    const { m } = this.now;
    if (this.counted === m.join()) return;
    this.counted = m.join();
    const parts = 80;
    const counts = [];
    const count = () => {
      const beta = BETAS[0] * (BETAS[1] / BETAS[0]) ** ((counts.length + 0.5) / parts);
      return counts.push(valleys(m, beta).length) === parts;
    };
    this.life.beside(count, () => this.showRibbon(counts));
  }

  showRibbon(counts) {
    const runs = [];
    for (const count of counts) {
      if (runs.at(-1)?.count === count) runs.at(-1).parts++;
      else runs.push({ count, parts: 1 });
    }
    const piece = ({ count, parts }) => {
      const style = `flex:${parts} 0 0;--depth:${Math.round((60 * (count - 1)) / 6)}%`;
      return node("span", { style }, parts > 3 ? `${count}` : "");
    };
    this.ribbon.replaceChildren(...runs.map(piece));
  }

  controls() {
    const { ui } = this;
    const sharp = this.slide("beta", {
      label: "β, how sharp. Below: the number of valleys",
      ...{ min: BETAS[0], max: BETAS[1], log: true, then: "soon" },
      format: (v) => nice(v, v < 10 ? 2 : 1),
    });
    this.ribbon = node("div", { class: "ribbon", "aria-hidden": "true" });
    sharp.append(this.ribbon);
    ui.controls.append(sharp);
    ui.row.append(this.button("Let them flow again"));
    this.visits("Drag the memories, drag the big dot. Or try", [
      ["three clusters", { beta: 8 }],
      ["one average", { beta: 1 }],
      ["a valley too many", { beta: 21, q: [-0.5, 0.75] }],
    ]);
  }

  question() {
    const why =
      "Near β\u00a0=\u00a021 their three valleys became one. D and E fused as well, " +
      "and only F, far from everybody, is still a memory.";
    return {
      asked: { ...INITIAL, beta: 8 },
      question:
        "β is high, and each memory has its own valley. Now β goes down to 8. " +
        "What will be left of the neighbours A, B and C?",
      answers: [
        ["three", "Three memories"],
        ["one", "One average"],
      ],
      reply: (key) => `${key === "one" ? "Yes, one average." : "One average."} ${why}`,
      answer: (done) => this.soften(done),
    };
  }

  /** The answer: beta falls, then the dots are let go. */
  soften(done) {
    const fall = (t) => (this.now.beta = Number((INITIAL.beta * (8 / INITIAL.beta) ** t).toPrecision(3)));
    this.vary(fall, () => this.play(done), { at: 0, end() {} });
  }

  state() {
    return { valleys: this.found.map((v) => v.x), held: this.held(), steps: this.moment };
  }
}

/** The place itself, or the nearest one inside the picture. */
function inside([x, y]) {
  const { x0, x1, y0, y1 } = WITHIN;
  return [clamp(x, x0, x1), clamp(y, y0, y1)].map((v) => Number(v.toFixed(3)));
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Average, element, options, {
    name: "average",
    title: "From average to memory",
    label: "Explorable: query dots run downhill in the energy landscape of six memories in the plane",
    ...{ style: STYLE_AVERAGE, start: INITIAL, settingsFrom, shared },
  });
}

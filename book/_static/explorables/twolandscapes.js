import { clamp, colours, join, nice, node, numberFrom, numbersFrom, pen, svg } from "./common.js";
import { Plane, contours, field, heat, point } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Two landscapes. It must teach: the same memories under two bowls. One that never ends (LSE) merges its
// neighbours into averages; one that ends (LSR) keeps them and has a valley for every crowd that feels
// just itself, and there are places where it knows nothing.
//
//   LSE  -(1/beta) log sum_mu exp(-beta/2 |x - xi_mu|^2)
//   LSR  -(1/beta) log sum_mu max(0, 1 - beta/2 |x - xi_mu|^2)

const WIDE = 1.3; // each picture shows -WIDE..WIDE by -TALL..TALL
const TALL = 1.15;
const NAMES = "ABCDEF";
const INITIAL = {
  beta: 6,
  m: [
    [-0.72, 0.52],
    [0.02, 0.7],
    [-0.4, -0.02],
    [0.62, 0.2],
    [0.3, -0.58],
    [-0.62, -0.7],
  ],
};
const BETAS = [0.5, 50];

function square(a, b) {
  return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2;
}

function mean(list) {
  return [0, 1].map((d) => list.reduce((sum, m) => sum + m[d], 0) / list.length);
}

/** The least of the squared distances to the memories. */
function leastOf(x, memories) {
  let least = Infinity;
  for (let i = 0; i < memories.length; i++) {
    const gap = square(x, memories[i]);
    if (gap < least) least = gap;
  }
  return least;
}

/** The LSE energy at x; the largest exponent is taken out of the sum. */
export function lse(x, memories, beta) {
  const least = leastOf(x, memories);
  let sum = 0;
  for (let i = 0; i < memories.length; i++) {
    sum += Math.exp(-0.5 * beta * (square(x, memories[i]) - least));
  }
  return 0.5 * least - Math.log(sum) / beta;
}

/** The LSR energy at x, infinite where no memory is in reach. */
export function lsr(x, memories, beta) {
  let sum = 0;
  for (let i = 0; i < memories.length; i++) sum += Math.max(0, 1 - 0.5 * beta * square(x, memories[i]));
  return sum > 0 ? -Math.log(sum) / beta : Infinity;
}

/** Slope and second derivatives [gx, gy, xx, xy, yy] of LSE: one minus beta times the spread of the pull. */
function local(x, memories, beta) {
  const least = leastOf(x, memories);
  let [total, cx, cy, xx, xy, yy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < memories.length; i++) {
    const w = Math.exp(-0.5 * beta * (square(x, memories[i]) - least));
    const [dx, dy] = [memories[i][0] - x[0], memories[i][1] - x[1]]; // from x: nothing cancels
    total += w;
    cx += w * dx;
    cy += w * dy;
    xx += w * dx * dx;
    xy += w * dx * dy;
    yy += w * dy * dy;
  }
  [cx, cy] = [cx / total, cy / total];
  const spread = [xx / total - cx * cx, xy / total - cx * cy, yy / total - cy * cy];
  return [-cx, -cy, 1 - beta * spread[0], -beta * spread[1], 1 - beta * spread[2]];
}

/** Jump to the weighted mean until nothing moves; where the ground is a bowl, by Newton's steps. */
export function settle(x, memories, beta) {
  for (let t = 0; t < 400; t++) {
    const [gx, gy, xx, xy, yy] = local(x, memories, beta);
    if (Math.hypot(gx, gy) < 1e-11) break;
    const det = xx * yy - xy * xy;
    const newton = [(yy * gx - xy * gy) / det, (xx * gy - xy * gx) / det];
    const near = xx > 0 && det > 1e-6 && Math.hypot(...newton) < 0.05;
    x = near ? [x[0] - newton[0], x[1] - newton[1]] : [x[0] - gx, x[1] - gy];
  }
  return x;
}

/** All sets of memories but the empty one, as lists of their numbers. */
function crowds(memories) {
  const numbers = [...memories.keys()];
  const codes = Array.from({ length: 2 ** memories.length - 1 }, (_, code) => code + 1);
  return codes.map((code) => numbers.filter((i) => (code >> i) & 1));
}

/** The valleys of LSE: ends of descents from the middle of every set of memories that are bowls. */
export function lseValleys(memories, beta) {
  const found = [];
  for (const crowd of crowds(memories)) {
    const x = settle(mean(crowd.map((i) => memories[i])), memories, beta);
    const [gx, gy, xx, xy, yy] = local(x, memories, beta);
    if (Math.hypot(gx, gy) > 1e-9 || xx <= 0 || xx * yy - xy * xy < 1e-9) continue;
    if (!found.some((other) => square(other, x) < 1e-6)) found.push(x);
  }
  return found;
}

/** The valleys of LSR, all of them: means of memories that are felt by just those, [{x, crowd}]. */
export function lsrValleys(memories, beta) {
  const found = [];
  for (const crowd of crowds(memories)) {
    const x = mean(crowd.map((i) => memories[i]));
    const felt = memories.map((m) => square(x, m) < 2 / beta);
    if (felt.every((yes, i) => yes === crowd.includes(i))) found.push({ x, crowd });
  }
  return found;
}

const NUMERALS = "no one two three four five six seven eight nine ten eleven twelve".split(" ");
const numeral = (n) => NUMERALS[n] ?? String(n);
const valleys = (n) => `${n} valley${n === 1 ? "" : "s"}`;

/** What the two pictures show, in words: [lead, rest, kind]. */
export function tell(left, right, memories) {
  const kept = right.filter((v) => memories.some((m) => square(m, v.x) < 1e-18)).length;
  const made = right.length - kept;
  const lead = `LSE has ${valleys(left.length)}, LSR has ${right.length}.`;
  const all = numeral(memories.length);
  if (made === 0 && kept === memories.length) {
    return [lead, `All ${all} memories are alone, in both. Grey: too far from everything for LSR.`, "good"];
  }
  const what = right.length === 1 ? "is a stored memory" : "are stored memories";
  const whom = `${kept} of ${right.length} ${what}`;
  const big = right.reduce((a, b) => (b.crowd.length > a.crowd.length ? b : a));
  const crowd = [...big.crowd].map((i) => NAMES[i]);
  const largest = `the largest crowd is ${join(crowd)}`;
  const rest = `On the right ${whom}, ${made} nobody stored; ${largest}.`;
  const more = left.length > memories.length ? " And LSE has more valleys than memories." : "";
  return [lead, rest + more, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = INITIAL) {
  const list = numbersFrom(given.m);
  const fits =
    list &&
    list.length === 12 &&
    list.every((v, i) => Number.isFinite(v) && Math.abs(v) <= (i % 2 ? TALL : WIDE));
  const pairs = fits ? Array.from({ length: 6 }, (_, i) => [list[2 * i], list[2 * i + 1]]) : otherwise.m;
  return { beta: numberFrom(given.beta, ...BETAS, otherwise.beta), m: pairs.map((p) => [...p]) };
}

/** What the address keeps: memories only when they were moved. */
function shared({ beta, m }) {
  const moved = m.some((p, i) => p.some((v, d) => v !== INITIAL.m[i][d]));
  return { beta, ...(moved ? { m: m.flat() } : {}) };
}

const STYLE_TWO = `
.amx-twolandscapes .board { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.amx-twolandscapes .plot {
  position: relative; aspect-ratio: ${WIDE} / ${TALL}; border-radius: 8px; overflow: hidden;
  border: 1px solid var(--amx-line);
}
.amx-twolandscapes .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-twolandscapes .memory { cursor: grab; touch-action: none; }
.amx-twolandscapes .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-twolandscapes .memory text {
  fill: var(--amx-paper); font-size: 11px; font-weight: 700; text-anchor: middle; pointer-events: none;
}
.amx-twolandscapes .valley {
  fill: none; stroke: var(--amx-trajectory); stroke-width: 2.5; pointer-events: none;
}
.amx-twolandscapes .above { margin: 0 0 .3rem; font-weight: 600; }
.amx-twolandscapes .above b { font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.amx-twolandscapes .ribbon {
  display: flex; margin: 3px 10px 0; height: 19px; border-radius: 5px; overflow: hidden; font-size: .74rem;
  line-height: 19px; text-align: center; color: var(--amx-ink);
}
.amx-twolandscapes .ribbon span {
  background: color-mix(in srgb, var(--amx-trajectory) var(--depth), var(--amx-soft)); overflow: hidden;
  white-space: nowrap; box-shadow: inset -1px 0 var(--amx-paper);
}
.amx-twolandscapes .amx-controls { grid-template-columns: 1fr; }
@media (max-width: 560px) {
  .amx-twolandscapes .board { grid-template-columns: minmax(0, 1fr); gap: .6rem; }
}
`;
const LEVELS = Array.from({ length: 8 }, (_, i) => ((i + 1) / 9) ** 2); // of the contours, low to high

/** The place itself, or the nearest one inside the picture. */
function inside([x, y], room = 0.06) {
  const spot = [clamp(x, room - WIDE, WIDE - room), clamp(y, room - TALL, TALL - room)];
  return spot.map((v) => Number(v.toFixed(3)));
}

/** One landscape: its canvas, rings at its valleys, and the memories, which hands can move. */
class Land {
  constructor({ title, energy, ends, names, put, go }) {
    Object.assign(this, { title, energy, ends });
    this.plane = new Plane([-WIDE, WIDE], [-TALL, TALL]);
    this.canvas = node("canvas", { role: "img" });
    this.rings = svg("g");
    this.over = svg("svg", {}, this.rings);
    this.plot = node("div", { class: "plot" }, this.canvas, this.over);
    this.count = node("b");
    this.root = node("div", {}, node("p", { class: "above" }, `${title}: `, this.count), this.plot);
    this.pegs = [...names].map((name, i) =>
      point({
        kind: "memory",
        label: `Memory ${name} in ${title}: arrow keys move it`,
        text: name,
        range: [-WIDE, WIDE],
        carry: (event) => put(i, this.plane.at(event, this.over)),
        nudge: (dx, dy) => put(i, [dx, dy], true),
        go,
      }),
    );
    this.over.append(...this.pegs.map((peg) => peg.root));
  }

  draw(root, { m, beta }, places) {
    if (!this.plane.resize(this.plot)) return;
    const { w, h } = this.plane;
    const c = colours(root);
    const context = pen(this.canvas, w, h);
    const [nx, ny] = [Math.round(w / 3), Math.round(h / 3)];
    const { xs, ys } = this.plane.cells(nx, ny);
    const values = Float64Array.from({ length: nx * ny }, (_, p) =>
      this.energy([xs[p % nx], ys[Math.floor(p / nx)]], m, beta),
    );
    const finite = values.filter((v) => v < Infinity);
    const grid = field(finite, nx, ny);
    grid.high = Math.min(grid.high, grid.low + (this.ends ? 3.5 / beta : Infinity));
    grid.values = values.map((v) => Math.min(v, grid.high));
    this.paint(context, grid, c, m, beta);
    this.over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    this.pegs.forEach((peg, i) => peg.show(this.plane, m[i]));
    this.rings.replaceChildren(
      ...places.map((x) => {
        const [cx, cy] = this.plane.to(x);
        return svg("circle", { class: "valley", cx, cy, r: 13 });
      }),
    );
    this.count.textContent = valleys(places.length);
    const words = `${this.title} landscape with ${valleys(places.length)}`;
    this.canvas.setAttribute("aria-label", words);
  }

  /** Grey where the energy is infinite; heat and contours inside the reach of the memories. */
  paint(context, grid, c, m, beta) {
    const { w, h } = this.plane;
    context.fillStyle = c.muted;
    context.globalAlpha = 0.42;
    context.fillRect(0, 0, w, h);
    context.globalAlpha = 1;
    context.save();
    if (this.ends) {
      const radius = (Math.sqrt(2 / beta) / (2 * WIDE)) * w;
      context.beginPath();
      for (const [cx, cy] of m.map((x) => this.plane.to(x))) {
        context.moveTo(cx + radius, cy);
        context.arc(cx, cy, radius, 0, 2 * Math.PI);
      }
      context.clip();
    }
    const depth = (share) => 0.62 * (1 - Math.sqrt(share)) ** 1.2;
    heat(context, grid, { w, h, colour: c.energy, paper: c.paper, depth });
    Object.assign(context, { strokeStyle: c.energy, lineWidth: 1, globalAlpha: 0.4 });
    contours(
      context,
      grid,
      LEVELS.map((level) => grid.low + (grid.high - grid.low) * level),
      { w, h },
    );
    context.restore();
    context.globalAlpha = 1;
  }
}

class TwoLandscapes extends Explorable {
  constructor(life) {
    super(life);
    this.shown = life.now.beta; // what the pictures show: during a film it is on its way
    const parts = { names: NAMES, put: (i, spot, step) => this.put(i, spot, step), go: () => this.play() };
    this.left = new Land({ ...parts, title: "LSE", energy: lse, ends: false });
    this.right = new Land({ ...parts, title: "LSR", energy: lsr, ends: true });
    this.board = node("div", { class: "board" }, this.left.root, this.right.root);
    this.ui.stage.append(this.board);
  }

  put(i, [x, y], step = false) {
    const { now } = this;
    now.m[i] = inside(step ? [now.m[i][0] + 0.05 * x, now.m[i][1] + 0.05 * y] : [x, y]);
    this.turn({}, "soon");
  }

  /** Beta rises from one wide valley to where it is set. */
  seek(t) {
    const { m, beta } = this.now;
    const start = Math.min(1, beta);
    this.shown = t === 1 ? beta : Number((start * (beta / start) ** t).toPrecision(3));
    this.lseFound = lseValleys(m, this.shown);
    this.lsrFound = lsrValleys(m, this.shown);
    this.hands.beta.show(this.shown);
  }

  draw() {
    const look = { m: this.now.m, beta: this.shown };
    this.left.draw(this.ui.root, look, this.lseFound);
    this.right.draw(
      this.ui.root,
      look,
      this.lsrFound.map((v) => v.x),
    );
  }

  told() {
    return tell(this.lseFound, this.lsrFound, this.now.m);
  }

  pace() {
    return 1600;
  }

  /** While a memory moves: the landscapes as they are set. */
  soon() {
    this.show(1);
    this.life.soon();
  }

  instant() {
    this.drawRibbons();
    super.instant();
  }

  play(after, how) {
    this.drawRibbons();
    super.play(after, how);
  }

  /** How many valleys there are at each beta, as two strips under the slider; counted beside all else. */
  drawRibbons() {
    const { m } = this.now;
    if (this.counted === m.join()) return;
    this.counted = m.join();
    const parts = 90;
    const counts = [[], []];
    const count = () => {
      const beta = BETAS[0] * (BETAS[1] / BETAS[0]) ** ((counts[0].length + 0.5) / parts);
      counts[1].push(lsrValleys(m, beta).length);
      return counts[0].push(lseValleys(m, beta).length) === parts;
    };
    this.life.beside(count, () => counts.forEach((list, i) => this.showRibbon(this.ribbons[i], list)));
  }

  showRibbon(ribbon, counts) {
    const runs = [];
    for (const count of counts) {
      if (runs.at(-1)?.count === count) runs.at(-1).parts++;
      else runs.push({ count, parts: 1 });
    }
    const piece = ({ count, parts }) => {
      const style = `flex:${parts} 0 0;--depth:${Math.min(60, Math.round(3.4 * (count - 1)))}%`;
      return node("span", { style }, parts > 3 ? `${count}` : "");
    };
    ribbon.replaceChildren(...runs.map(piece));
  }

  controls() {
    const { ui } = this;
    const sharp = this.slide("beta", {
      label: "β, how sharp. Below: valleys of LSE, and of LSR",
      ...{ min: BETAS[0], max: BETAS[1], log: true },
      format: (v) => nice(v, v < 10 ? 2 : 1),
    });
    this.ribbons = [0, 1].map(() => node("div", { class: "ribbon", "aria-hidden": "true" }));
    sharp.append(...this.ribbons);
    ui.controls.append(sharp);
    const triangles = [-0.9, 0.28, -1.142, -0.14, -0.658, -0.14, 0.9, 0.28, 0.658, -0.14, 1.142, -0.14];
    this.visits("Drag the memories. Or try", [
      ["both alone", { beta: 40 }],
      ["one average", { beta: 1 }],
      ["two too many on the left", { beta: 24, m: triangles }],
    ]);
  }

  question() {
    const why =
      "Wherever a pair, a trio or a crowd feels just itself, its mean is a valley. Only one of them is a " +
      "stored memory: at this β the others feel each other.";
    return {
      asked: { ...INITIAL, beta: 3 },
      question: "Six memories. At β\u00a0=\u00a03 LSE has one valley, the average of all. And LSR?",
      answers: [
        ["six", "Six at most"],
        ["more", "More than six"],
      ],
      reply: (key) => `${key === "more" ? "Yes, fifteen." : "Fifteen."} ${why}`,
      answer: (done) => this.play(done, { milliseconds: 3200 }),
    };
  }

  state() {
    return { lse: this.lseFound, lsr: this.lsrFound.map((v) => v.x), beta: this.shown };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(TwoLandscapes, element, options, {
    name: "twolandscapes",
    title: "Two landscapes",
    label: "Explorable: the energies LSE and LSR of six memories in the plane, side by side over beta",
    ...{ style: STYLE_TWO, start: INITIAL, settingsFrom, shared },
  });
}

import { colours, nice, node, numberFrom, numbersFrom, pen, push, random, svg } from "./common.js";
import { Plane, contours, field, memoryGrips, heat } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// A memory of fixed size. It must teach: one list of numbers can stand for all memories; its noise grows
// with how many different ones there are, and makes valleys that nobody stored.
//
//   exact   E(x) = -(1/beta) log sum_mu exp(-beta/2 |x - xi_mu|^2)
//   list    E(x) = -(1/beta) log max(rho, Phi(x') . T),  T = sum_mu Phi(xi_mu'),  x' = sqrt(beta) x
//           Phi(x) = (cos w_j x, sin w_j x) / sqrt(Y),  rho = |T| / sqrt(2 Y)

const WIDE = 1.5; // the pictures show -WIDE..WIDE by -TALL..TALL
const TALL = 1.2;
const MOST = 12; // memories
const COUNTS = [10, 1000]; // frequencies Y
const BETAS = [2, 40];
const [NX, NY] = [90, 72]; // cells of a picture
const DEEP = 4; // the colours reach over so many units of log S
const SIX = [
  [-0.8, 0.7],
  [-1.06, -0.05],
  [0.2, -0.8],
  [0.5, 0.7],
  [1.1, 0.1],
  [-0.45, -0.65],
];
const FREE = [
  [-0.1, 0.2],
  [1.1, -0.75],
  [-1.15, -0.8],
  [-0.2, 0.95],
  [1.2, 0.9],
  [0.55, -0.15],
]; // where "+ memory" puts the next ones
const INITIAL = { beta: 16, y: 300, m: SIX };

/** Standard normal frequencies, always the same ones: more of them begin with the fewer. */
export function frequencies(count = COUNTS[1]) {
  const dice = random(12);
  return Array.from({ length: count }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - dice())), 2 * Math.PI * dice()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const OMEGA = frequencies();

/** The list: cosines and sines of all memories, added up, {cosines, sines}. */
export function tensor(memories, beta, y) {
  const [root, scale] = [Math.sqrt(beta), 1 / Math.sqrt(y)];
  const [cosines, sines] = [new Float64Array(y), new Float64Array(y)];
  for (let j = 0; j < y; j++) {
    for (const [a, b] of memories) {
      const angle = root * (OMEGA[j][0] * a + OMEGA[j][1] * b);
      cosines[j] += scale * Math.cos(angle);
      sines[j] += scale * Math.sin(angle);
    }
  }
  return { cosines, sines };
}

/** Width of the sum where nothing is stored. */
export function noise({ cosines, sines }) {
  const square = cosines.reduce((sum, c, j) => sum + c * c + sines[j] * sines[j], 0);
  return Math.sqrt(square / (2 * cosines.length));
}

/** Cosines and sines of w x at places evenly apart: each pair is the one before, turned a little. */
function wave(w, places, { cosines, sines }) {
  const apart = w * (places[1] - places[0]);
  const [dc, ds] = [Math.cos(apart), Math.sin(apart)];
  cosines[0] = Math.cos(w * places[0]);
  sines[0] = Math.sin(w * places[0]);
  for (let i = 1; i < places.length; i++) {
    cosines[i] = cosines[i - 1] * dc - sines[i - 1] * ds;
    sines[i] = sines[i - 1] * dc + cosines[i - 1] * ds;
  }
}

/**
 * The list's sums on a grid of places evenly apart, row by row: a wave there is a product of waves along
 * its sides, so that no cell needs a cosine of its own.
 */
export function sums({ cosines, sines }, beta, xs, ys) {
  const [y, root] = [cosines.length, Math.sqrt(beta)];
  const [across, down] = [xs, ys].map(({ length }) => ({
    cosines: new Float64Array(length),
    sines: new Float64Array(length),
  }));
  const found = new Float64Array(xs.length * ys.length);
  const [one, two] = [new Float64Array(xs.length), new Float64Array(xs.length)];
  for (let j = 0; j < y; j++) {
    wave(root * OMEGA[j][0], xs, across);
    wave(root * OMEGA[j][1], ys, down);
    const [a, b] = [cosines[j] / Math.sqrt(y), sines[j] / Math.sqrt(y)];
    for (let i = 0; i < xs.length; i++) {
      one[i] = a * across.cosines[i] + b * across.sines[i];
      two[i] = b * across.cosines[i] - a * across.sines[i];
    }
    for (let k = 0; k < ys.length; k++) {
      const [c, s] = [down.cosines[k], down.sines[k]];
      for (let i = 0, p = k * xs.length; i < xs.length; i++, p++) found[p] += one[i] * c + two[i] * s;
    }
  }
  return found;
}

/** The exact sums on a grid. */
export function exactSums(memories, beta, xs, ys) {
  const found = new Float64Array(xs.length * ys.length);
  for (const [a, b] of memories) {
    const along = xs.map((x) => Math.exp(-0.5 * beta * (x - a) ** 2));
    const down = ys.map((y) => Math.exp(-0.5 * beta * (y - b) ** 2));
    for (let k = 0; k < ys.length; k++) {
      for (let i = 0, p = k * xs.length; i < xs.length; i++, p++) found[p] += along[i] * down[k];
    }
  }
  return found;
}

/** Energies of sums, flat below a floor. */
export function energies(found, beta, floor = 1e-300) {
  return found.map((s) => -Math.log(Math.max(s, floor)) / beta);
}

/**
 * The cells, inside the grid, that lie lower than their eight neighbours, deepest first: [[x, y], ...]. Of
 * those nearer than `apart` to a deeper one (a long valley across the grid has such steps), only the deeper.
 */
export function lowCells(values, xs, ys, apart = 0) {
  const [nx, found] = [xs.length, []];
  for (let k = 1; k + 1 < ys.length; k++) {
    for (let i = 1; i + 1 < nx; i++) {
      const p = k * nx + i;
      if (!(values[p] < values[p - 1] && values[p] < values[p + 1])) continue;
      const around = [p - nx - 1, p - nx, p - nx + 1, p - 1, p + 1, p + nx - 1, p + nx, p + nx + 1];
      if (around.every((q) => values[p] < values[q])) found.push({ at: [xs[i], ys[k]], deep: values[p] });
    }
  }
  found.sort((a, b) => a.deep - b.deep);
  const kept = [];
  for (const { at } of found) {
    if (kept.every((v) => Math.hypot(v[0] - at[0], v[1] - at[1]) >= apart)) kept.push(at);
  }
  return kept;
}

/** Which valleys of the list are those of the memories, within half a bowl, and which are nobody's. */
export function compare(exact, listed, beta) {
  const near = 0.6 / Math.sqrt(beta);
  const gap = ([a, b], [c, d]) => Math.hypot(a - c, b - d);
  const least = (v, others) => Math.min(Infinity, ...others.map((o) => gap(v, o)));
  return {
    nobodys: listed.filter((v) => least(v, exact) > near),
    lost: exact.filter((v) => least(v, listed) > near),
  };
}

/** Everything that the pictures show. */
export function look({ m, beta, y }, xs, ys) {
  const list = tensor(m, beta, y);
  const rho = noise(list);
  const exact = energies(exactSums(m, beta, xs, ys), beta);
  const guess = energies(sums(list, beta, xs, ys), beta, rho);
  const [wells, listed] = [exact, guess].map((values) => lowCells(values, xs, ys, 0.3 / Math.sqrt(beta)));
  return { exact, guess, rho, wells, listed, ...compare(wells, listed, beta) };
}

export function settingsFrom(given) {
  const list = numbersFrom(given.m) ?? [];
  const fits = list.every((v, i) => Number.isFinite(v) && Math.abs(v) <= (i % 2 ? TALL : WIDE));
  const good = fits && list.length >= 2 && list.length <= 2 * MOST && list.length % 2 === 0;
  return {
    beta: numberFrom(given.beta, ...BETAS, INITIAL.beta),
    y: Math.round(numberFrom(given.y, ...COUNTS, INITIAL.y)),
    m: good
      ? Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]])
      : SIX.map((p) => [...p]),
  };
}

const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** What the list does, in words: [lead, rest, kind]. */
export function tell({ rho, wells, nobodys, lost }, { m, y }) {
  const has = `${count(2 * y, "number")} for ${count(m.length, "memory").replace("memorys", "memories")}`;
  const width = `Noise ${nice(rho)}, where a memory by itself adds 1.`;
  if (!nobodys.length && !lost.length) {
    const lead = `The list has the same ${count(wells.length, "valley")}.`;
    return [lead, `${has[0].toUpperCase()}${has.slice(1)}. ${width}`, "good"];
  }
  const parts = [];
  if (nobodys.length) parts.push(`${count(nobodys.length, "valley")} that nobody stored`);
  if (lost.length) parts.push(`${lost.length} of ${count(wells.length, "valley")} lost`);
  const lead = `${parts.join(", ")}.`;
  const why = rho > 0.25 ? "Turn Y up, or forget some." : "Bumps of the waves, at the edge of the noise.";
  return [lead, `${width} ${why}`, "bad"];
}

const STYLE_FIXED = `
.amx-fixedsize .board { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem 1rem; }
.amx-fixedsize .plot {
  position: relative; aspect-ratio: ${WIDE} / ${TALL}; overflow: hidden; border: 1px solid var(--amx-line);
  border-radius: 8px;
}
.amx-fixedsize .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-fixedsize .memory { cursor: grab; touch-action: none; }
.amx-fixedsize .memory .dot, .amx-fixedsize .seen {
  fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5;
}
.amx-fixedsize .nobodys { fill: none; stroke: var(--amx-wrong); stroke-width: 2.5; }
.amx-fixedsize .lost { fill: none; stroke: var(--amx-wrong); stroke-width: 2; stroke-dasharray: 3 3; }
.amx-fixedsize .small { font-size: .86rem; color: var(--amx-muted); }
@media (max-width: 480px) { .amx-fixedsize .board { grid-template-columns: 1fr; } }
`;
const LEVELS = Array.from({ length: 7 }, (_, i) => (i + 1) / 8);

class FixedSize extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([-WIDE, WIDE], [-TALL, TALL]);
    const { xs, ys } = this.plane.cells(NX, NY);
    Object.assign(this, { xs, ys });
    this.sides = [
      ["exact", "Landscape of the memories themselves"],
      ["list", "Landscape that the list of fixed size has; red rings are valleys that nobody stored"],
    ].map(([key, label]) => {
      const land = node("canvas", { role: "img", "aria-label": label });
      const over = svg("svg", {});
      return { key, land, over, plot: node("div", { class: "plot" }, land, over) };
    });
    const captions = ["Exact: the memories are kept", "From one list: they are not"];
    const heads = captions.map((text) => node("p", { class: "small" }, text));
    const plots = this.sides.map(({ plot }, i) => node("div", {}, heads[i], plot));
    life.ui.stage.append(node("div", { class: "board" }, ...plots));
    const numbers = Array.from({ length: MOST }, (_, i) => String(i + 1));
    const { over } = this.sides[0];
    this.pegs = memoryGrips(this, numbers, { plane: this.plane, over, text: "", radius: 6 });
  }

  /** The list grows to its length. */
  seek(t) {
    const { now } = this;
    this.found = look({ ...now, y: Math.max(1, Math.round(now.y ** t)) }, this.xs, this.ys);
  }

  draw() {
    const { ui, now } = this;
    if (!this.plane.resize(this.sides[0].plot)) return;
    const { plane, found } = this;
    const { energy, paper, ink } = colours(ui.root);
    const low = Math.min(...found.exact);
    const size = { w: plane.w, h: plane.h };
    for (const { key, land, over } of this.sides) {
      const values = key === "exact" ? found.exact : found.guess;
      const grid = { ...field(values, NX, NY), low, high: low + DEEP / now.beta };
      const context = pen(land, plane.w, plane.h);
      heat(context, grid, { ...size, colour: energy, paper, depth: (t) => 0.85 * (1 - t) });
      context.strokeStyle = ink;
      context.globalAlpha = 0.22;
      const levels = LEVELS.map((t) => grid.low + t * (grid.high - grid.low));
      contours(context, grid, levels, size);
      context.globalAlpha = 1;
      over.setAttribute("viewBox", `0 0 ${plane.w} ${plane.h}`);
    }
    this.pegs.forEach((peg, i) => {
      peg.root.style.display = i < now.m.length ? "" : "none";
      if (i < now.m.length) peg.show(plane, now.m[i]);
    });
    this.sides[1].over.replaceChildren(
      ...this.rings(now.m, "seen", 2.5),
      ...this.rings(found.nobodys, "nobodys", 9),
      ...this.rings(found.lost, "lost", 9),
    );
  }

  rings(places, kind, r) {
    const at = places.map((v) => this.plane.to(v));
    return at.map(([cx, cy]) => svg("circle", { class: kind, r, cx: cx.toFixed(1), cy: cy.toFixed(1) }));
  }

  told() {
    return tell(this.found, this.now);
  }

  pace() {
    return 1600;
  }

  /** One memory more, or one less. */
  keep(m) {
    if (m.length >= 1 && m.length <= MOST) this.turn({ m });
  }

  controls() {
    const { ui, now } = this;
    const many = this.slide("y", {
      label: "frequencies Y (the list has 2Y numbers)",
      ...{ min: COUNTS[0], max: COUNTS[1], log: true, format: (v) => String(Math.round(v)) },
      input: (v) => this.turn({ y: Math.round(v) }),
    });
    const cold = this.slide("beta", {
      label: "β: how narrow a memory's bowl is",
      ...{ min: BETAS[0], max: BETAS[1], step: 0.5, format: (v) => nice(v, 1) },
    });
    ui.controls.append(many, cold);
    const more = () => this.keep([...now.m, [...FREE[now.m.length % FREE.length]]]);
    ui.row.append(
      push("+ memory", more),
      push("− memory", () => this.keep(now.m.slice(0, -1))),
    );
    const heap = ([x, y]) => [-0.06, 0, 0.06].map((d) => [x + d, y + 0.5 * d]);
    this.visits("Drag the memories on the left. Or try", [
      ["twelve apart in a short list", { y: 60, m: [...SIX, ...FREE] }],
      ["twelve in four heaps", { y: 60, m: [SIX[0], SIX[2], SIX[4], FREE[2]].flatMap(heap) }],
      ["twelve apart in a long list", { y: 1000, m: [...SIX, ...FREE] }],
    ]);
  }

  question() {
    const why =
      "The waves of a short list do not cancel where nothing is stored, and their bumps are valleys, too. " +
      "The bowls themselves hardly get wider.";
    return {
      question: "The list gets ten times shorter. What will its landscape do?",
      answers: [
        ["blur", "Blur: wider bowls"],
        ["false", "Lie: valleys nobody stored"],
      ],
      reply: (key) => `${key === "false" ? "Yes, it lies." : "It lies."} ${why}`,
      asked: INITIAL,
      answer: (done) => this.vary((t) => (this.now.y = Math.round(INITIAL.y * 10 ** -t)), done),
    };
  }

  state() {
    const { rho, wells, nobodys, lost } = this.found;
    return { noise: rho, exact: wells.length, nobodys: nobodys.length, lost: lost.length };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(FixedSize, element, options, {
    name: "fixedsize",
    title: "A memory of fixed size",
    label: "Explorable: memories in the plane, their landscape, and the one that a list of fixed size has",
    ...{ style: STYLE_FIXED, start: INITIAL, settingsFrom },
    shared: ({ beta, y, m }) => ({ beta, y, m: m.flat() }),
  });
}

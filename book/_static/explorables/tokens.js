import { draggable, legend, line, nice, numberFrom, numbersFrom, set, size, svg } from "./common.js";
import { Explorable, explorable } from "./life.js";

// Tokens going downhill: a small Energy Transformer whose tokens can be drawn. It must teach: two
// terms of one energy pull, attention towards each other and memories towards what is known; both
// act at once and the sum falls; and why a token may not look at itself.
//
// Tokens have D = 3 numbers. Layer norm takes away the mean, so only a plane is left, and the
// length, so only a ring. x is drawn in that plane (two numbers), g is its place on the ring.
//
//   g_A = sqrt(3) x_A / |x_A|                                               (MM 3.13, eps -> 0)
//   E_att = -(1/beta) sum_C log sum_{B != C} exp(beta g_B . g_C)            (MM 3.15, W^Q = W^K)
//   E_mem = -(1/2) sum_B sum_mu max(xi_mu . g_B, 0)^2                       (MM 3.17)
//   x <- x - eta d(a E_att + m E_mem)/dg                                    (MM 3.19)

const ANGLES = [90, 205, 330]; // of the memories, in degrees
const NAMES = ["A", "B", "C"];
const RADIUS = Math.sqrt(3); // |g| for D = 3
const STEPS = 150;
const ETA = 0.08;
const NEAR = 20; // degrees: nearer tokens are one heap, a heap nearer to a memory than this is at it
const ANSWERED = { a: 1, m: 0, beta: 0.3, self: "no" };
const START = {
  a: 1,
  m: 1.5,
  beta: 1,
  self: "no",
  t: [12, 38, 61, 118, 149, 171, 236, 262, 287, 311, 338, 352],
};

const plane = (degrees, r = 1) => {
  const turn = (degrees * Math.PI) / 180;
  return [r * Math.cos(turn), r * Math.sin(turn)];
};
const dot = (p, q) => p[0] * q[0] + p[1] * q[1];

const MEMORIES = ANGLES.map((angle) => plane(angle));

/** The three memories, unit vectors in the plane. */
export function memories() {
  return MEMORIES;
}

/** Where tokens start: at these angles, all at the same small distance from the middle. */
export function start(angles) {
  return angles.map((angle) => plane(angle, 0.8));
}

/** Layer norm of three numbers, in the plane that is left of them. */
function normalise(x) {
  const r = Math.hypot(x[0], x[1]);
  return [(RADIUS * x[0]) / r, (RADIUS * x[1]) / r];
}

/** Softmax of the scores of one query, into `weights`, itself left out unless asked; returns log sum exp. */
function attend(g, c, { beta, self }, weights) {
  let top = -Infinity;
  for (let b = 0; b < g.length; b++) {
    weights[b] = b === c && self !== "yes" ? -Infinity : beta * dot(g[b], g[c]);
    if (weights[b] > top) top = weights[b];
  }
  let sum = 0;
  for (let b = 0; b < g.length; b++) sum += weights[b] = Math.exp(weights[b] - top);
  for (let b = 0; b < g.length; b++) weights[b] /= sum;
  return top + Math.log(sum);
}

/** How much each token looks at each other one: rows that sum to one. */
export function attention(x, settings) {
  const g = x.map(normalise);
  return g.map((_, c) => {
    const weights = new Float64Array(g.length);
    attend(g, c, settings, weights);
    return weights;
  });
}

/** The two weighted terms and their sum; their slope with respect to g, one pair for each token. */
function landscape(x, settings) {
  const { a, m, beta } = settings;
  const g = x.map(normalise);
  const slope = g.map(() => [0, 0]);
  const weights = new Float64Array(g.length);
  let [logs, squares] = [0, 0];
  for (let c = 0; c < g.length; c++) {
    logs += attend(g, c, settings, weights);
    for (let b = 0; b < g.length; b++) {
      for (let d = 0; d < 2; d++) {
        slope[c][d] -= a * weights[b] * g[b][d]; // what it looks for
        slope[b][d] -= a * weights[b] * g[c][d]; // what others look for in it
      }
    }
    for (const xi of MEMORIES) {
      const overlap = Math.max(0, dot(xi, g[c]));
      squares += overlap * overlap;
      for (let d = 0; d < 2; d++) slope[c][d] -= m * overlap * xi[d];
    }
  }
  const [near, known] = [(-a * logs) / beta, -0.5 * m * squares];
  return { slope, energies: { attention: near, memory: known, total: near + known } };
}

/** The two terms, weighted, and their sum. */
export function energies(x, settings) {
  return landscape(x, settings).energies;
}

/** The gradient of the weighted sum with respect to g, in closed form, one pair for each token. */
export function gradient(x, settings) {
  return landscape(x, settings).slope;
}

/** One step down. */
export function step(x, settings, eta = ETA) {
  return moved(x, gradient(x, settings), eta);
}

function moved(x, slope, eta) {
  return x.map((token, i) => [token[0] - eta * slope[i][0], token[1] - eta * slope[i][1]]);
}

/** A whole run: states, energies, and how often the sum rose. */
export function run(settings, steps = STEPS) {
  let x = start(settings.t);
  const [states, trace] = [[x], []];
  let rises = 0;
  for (let t = 0; t <= steps; t++) {
    const here = landscape(x, settings);
    trace.push(here.energies);
    if (t > 0 && trace[t].total > trace[t - 1].total + 1e-9) rises++;
    if (t < steps) states.push((x = moved(x, here.slope, ETA)));
  }
  return { states, trace, rises };
}

const angleOf = (p) => ((Math.atan2(p[1], p[0]) * 180) / Math.PI + 360) % 360;
const apart = (p, q) => Math.abs(((p - q + 540) % 360) - 180);

/** Heaps on the ring: neighbours less than NEAR degrees apart belong together. [{angle, size, at}] */
export function heaps(x) {
  const sorted = x.map(angleOf).sort((p, q) => p - q);
  const n = sorted.length;
  const gap = (i) => (n === 1 ? 360 : (sorted[(i + 1) % n] - sorted[i] + 360) % 360);
  const gaps = sorted.map((_, i) => gap(i));
  const first = (gaps.indexOf(Math.max(...gaps)) + 1) % n;
  const found = [];
  for (let i = 0; i < n; i++) {
    const k = (first + i) % n;
    if (i === 0 || gaps[(k + n - 1) % n] > NEAR) found.push([]);
    found.at(-1).push(sorted[k]);
  }
  return found.map((members) => {
    const sum = (p, q) => [p[0] + q[0], p[1] + q[1]];
    const middle = angleOf(members.map((angle) => plane(angle)).reduce(sum, [0, 0]));
    const wide = Math.max(...members.map((angle) => apart(angle, middle)));
    const best = ANGLES.map((angle) => apart(angle, middle));
    const mu = best.indexOf(Math.min(...best));
    return { angle: middle, size: members.length, wide, at: best[mu] < NEAR ? NAMES[mu] : null };
  });
}

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, settings) {
  const { a, m } = settings;
  if (a === 0 && m === 0) return ["Nothing moves.", "Both terms are off: the landscape is flat.", ""];
  const found = heaps(ride.states.at(-1)).sort((p, q) => q.size - p.size);
  const fell = nice(ride.trace[0].total - ride.trace.at(-1).total, 1);
  const fall = ride.rises
    ? `The energy rose in ${ride.rises} of ${STEPS} steps.`
    : `The energy fell by ${fell} and rose in none of ${STEPS} steps.`;
  const list = inventory(found, m > 0);
  if (m === 0) return tellAttention(ride, found, `${list}.`, fall);
  const lost = found.filter((heap) => !heap.at).length;
  if (a === 0) {
    const why = "Every token goes to the memory that is nearest to it and asks nobody.";
    return ["Each for itself.", `${list}. ${why} ${fall}`, lost ? "" : "good"];
  }
  if (found.length === 1 && !lost) {
    const why = "Attention made a crowd, and a memory told the crowd what it is.";
    return [`All of them agree on ${found[0].at}.`, `${why} ${fall}`, "good"];
  }
  if (!lost) return ["Crowds with a name.", `${list}. ${fall}`, "good"];
  const count = found.length === 1 ? "One heap" : `${found.length} heaps`;
  const who = lost === 1 ? "one of them" : "some";
  const why = "The two terms found a compromise between company and knowledge.";
  return [`${count}, and no memory for ${who}.`, `${list}. ${why} ${fall}`, ""];
}

/** "7 tokens at A, 1 token". */
function inventory(found, named) {
  const one = ({ size: count, at }) =>
    `${count} ${count > 1 ? "tokens" : "token"}${at && named ? ` at ${at}` : ""}`;
  const more = found.length > 4 ? ` and ${found.length - 4} more` : "";
  return found.slice(0, 4).map(one).join(", ") + more;
}

function tellAttention(ride, found, list, fall) {
  const turned = ride.states[0].map((p, i) => apart(angleOf(p), angleOf(ride.states.at(-1)[i])));
  if (Math.max(...turned) < 12) {
    const why =
      "Each token finds one token that matches it best: itself. Attention is satisfied and teaches nothing.";
    return ["They hardly move.", `${why} ${fall}`, "bad"];
  }
  const lead = found.length === 1 ? "One heap." : `${found.length} heaps.`;
  const why = "Nothing says where a heap should be; they agree on whatever was near.";
  return [lead, `${list} ${why} ${fall}`, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = numbersFrom(given.t);
  const angle = (v) => Number.isFinite(v) && v >= 0 && v <= 360;
  const good = list && list.length === START.t.length && list.every(angle);
  return {
    a: numberFrom(given.a, 0, 2, otherwise.a),
    m: numberFrom(given.m, 0, 4, otherwise.m),
    beta: numberFrom(given.beta, 0.1, 20, otherwise.beta),
    self: ["no", "yes"].includes(given.self) ? given.self : otherwise.self,
    t: good ? list : [...otherwise.t],
  };
}

const STYLE_TOKENS = `
.amx-tokens .ring { fill: none; stroke: var(--amx-line); stroke-width: 1; }
.amx-tokens .band { fill: none; stroke: var(--amx-memory); stroke-width: 9; stroke-linecap: butt; }
.amx-tokens .mem { fill: var(--amx-memory); }
.amx-tokens text.mem { font-weight: 650; text-anchor: middle; }
.amx-tokens .way { fill: none; stroke: var(--amx-trajectory); stroke-width: 1.6; opacity: .75; }
.amx-tokens .spoke { stroke: var(--amx-edge); stroke-width: 1; }
.amx-tokens .link { stroke: var(--amx-energy); }
.amx-tokens .token { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-tokens .shadow { fill: var(--amx-ink); }
.amx-tokens .grip { fill: transparent; cursor: grab; touch-action: none; }
.amx-tokens .now { stroke: var(--amx-line); stroke-width: 1; }
.amx-tokens path.total { stroke: var(--amx-energy); stroke-width: 3; fill: none; }
.amx-tokens path.attention { stroke: var(--amx-query); stroke-width: 1.8; fill: none; }
.amx-tokens path.memory {
  stroke: var(--amx-memory); stroke-width: 1.8; fill: none; stroke-dasharray: 6 3;
}
`;
const PARTS = [
  ["total", "sum"],
  ["attention", "attention"],
  ["memory", "memories"],
];
const KEYS = { ArrowUp: 5, ArrowRight: -5, ArrowDown: -5, ArrowLeft: 5 };

class Tokens extends Explorable {
  constructor(life) {
    super(life);
    const group = (name) => svg("g", { class: name });
    [this.back, this.links, this.ways] = ["back", "links", "ways"].map(group);
    [this.tokens, this.lines, this.labels, this.grips] = ["tokens", "lines", "labels", "grips"].map(group);
    this.cursor = svg("line", { class: "now" });
    this.plot = svg("svg", {}, this.back, this.links, this.ways, this.tokens, this.cursor);
    this.plot.append(this.lines, this.labels, this.grips);
    this.ui.stage.append(this.plot);
    this.curves = Object.fromEntries(PARTS.map(([key]) => [key, svg("path", { class: key })]));
    this.lines.append(...Object.values(this.curves).reverse());
    this.handles = START.t.map((_, i) => this.handle(i));
  }

  layout() {
    const w = Math.max(260, this.ui.stage.clientWidth);
    const narrow = w < 520;
    const side = narrow ? Math.min(w, 330) : Math.min(w * 0.48, 330);
    const [left, right] = [narrow ? 40 : side + 56, w - 8];
    const [top, bottom] = narrow ? [side + 34, side + 174] : [34, side - 62];
    this.key = legend(PARTS, { left, top: bottom + 36, width: right - left });
    const cx = narrow ? w / 2 : side / 2;
    this.box = { cx, cy: side / 2, ring: side / 2 - 32, left, right, top, bottom };
    size(this.plot, w, Math.max(side, bottom + 29 + this.key.height));
    const all = this.ride.trace.flatMap((e) => PARTS.map(([key]) => e[key]));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    this.y = (e) => bottom - 4 - ((e - low) / (high - low || 1)) * (bottom - top - 8);
    this.x = (t) => left + (t / STEPS) * (right - left);
  }

  /** Where a token is drawn: the plane has no end, the picture has. */
  at(p) {
    const r = Math.hypot(p[0], p[1]);
    return this.onRing(p, (this.box.ring * r) / (r + 3));
  }

  onRing(p, radius = this.box.ring) {
    const r = Math.hypot(p[0], p[1]);
    return [this.box.cx + (radius * p[0]) / r, this.box.cy - (radius * p[1]) / r];
  }

  drawFrame() {
    const { box } = this;
    const { m } = this.now;
    const name = (xi, mu) => {
      const [x, y] = this.onRing(xi, box.ring + 23);
      return svg("text", { class: "mem", x, y: y + 4, opacity: m > 0 ? 1 : 0.35 }, NAMES[mu]);
    };
    this.back.replaceChildren(
      svg("circle", { class: "ring", cx: box.cx, cy: box.cy, r: box.ring }),
      ...this.band(Math.min(1, m)),
      ...MEMORIES.map(name),
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    );
    const ends = [this.ride.trace[0].total, this.ride.trace.at(-1).total];
    if (Math.abs(this.y(ends[0]) - this.y(ends[1])) <= 14) ends.pop();
    const tick = (e) => svg("text", { x: box.left - 6, y: this.y(e) + 4, class: "end" }, nice(e, 0));
    this.labels.replaceChildren(
      svg("text", { class: "strong", x: box.left, y: box.top - 14 }, "energy, and its two terms"),
      svg("text", { x: box.right, y: box.bottom + 16, class: "end" }, `${STEPS} steps`),
      ...ends.map(tick),
      this.key.root,
    );
  }

  /** How deep the memories' energy is around the ring. */
  band(share) {
    return Array.from({ length: 120 }, (_, k) => {
      const square = (sum, xi) => sum + Math.max(0, dot(xi, plane(3 * k))) ** 2;
      const depth = MEMORIES.reduce(square, 0);
      const d = line([-1.5, 1.5].map((turn) => this.onRing(plane(3 * k + turn), this.box.ring + 8)));
      return svg("path", { class: "band", d, opacity: (0.06 + 0.42 * share * depth).toFixed(3) });
    });
  }

  frame() {
    const t = this.reached();
    const x = this.ride.states[t];
    const places = x.map((p) => this.at(p));
    this.ways.replaceChildren(...x.map((_, i) => svg("path", { class: "way", d: line(this.track(i, t)) })));
    this.links.replaceChildren(...(this.now.a === 0 ? [] : this.looks(x, places)));
    const token = (p, i) => {
      const [[x1, y1], [x2, y2]] = [places[i], this.onRing(p)];
      return [
        svg("line", { class: "spoke", x1, y1, x2, y2 }),
        svg("circle", { class: "shadow", cx: x2, cy: y2, r: 2.6 }),
        svg("circle", { class: "token", cx: x1, cy: y1, r: 6 }),
      ];
    };
    this.tokens.replaceChildren(...x.flatMap(token));
    const trace = this.ride.trace.slice(0, t + 1);
    for (const [key] of PARTS) {
      const points = trace.map((e, k) => [this.x(k), this.y(e[key])]);
      this.curves[key].setAttribute("d", line(points));
    }
    set(this.cursor, { x1: this.x(t), x2: this.x(t), y1: this.box.top, y2: this.box.bottom });
  }

  /** The places of token i up to state t. */
  track(i, t) {
    const seen = this.ride.states.slice(0, t + 1).filter((_, k) => k % 3 === 0 || k === t);
    return seen.map((x) => this.at(x[i]));
  }

  /** A line for each token that another one looks at with an eighth of its attention. */
  looks(x, places) {
    const found = [];
    attention(x, this.now).forEach((weights, c) => {
      weights.forEach((p, b) => {
        if (p < 0.12 || b === c) return;
        const [[x1, y1], [x2, y2]] = [places[c], places[b]];
        const look = { "stroke-width": (2.4 * p).toFixed(2), opacity: (0.25 + 0.5 * p).toFixed(2) };
        found.push(svg("line", { class: "link", x1, y1, x2, y2, ...look }));
      });
    });
    return found;
  }

  handle(i) {
    const { now } = this;
    const label = `Where token ${i + 1} starts: arrow keys turn it`;
    const names = { role: "slider", tabindex: "0", "aria-label": label };
    const grip = svg("g", { ...names, "aria-valuemin": 0, "aria-valuemax": 360 });
    grip.append(svg("circle", { class: "grip", r: 16 }), svg("circle", { class: "amx-ring", r: 10 }));
    const put = (angle) => {
      now.t[i] = Math.round((angle + 360) % 360);
      this.turn({}, "wait");
    };
    const pointed = (event) => {
      const frame = this.plot.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      put(angleOf([x - this.box.cx, this.box.cy - y]));
    };
    draggable(grip, pointed, () => this.play());
    grip.addEventListener("keydown", (event) => {
      const way = KEYS[event.key];
      if (way) {
        put(now.t[i] + way);
        this.life.soon();
      } else if (event.key === "Enter" || event.key === " ") this.play();
      else return;
      event.preventDefault();
    });
    this.grips.append(grip);
    return grip;
  }

  drawGrips() {
    const { t } = this.now;
    start(t).forEach((p, i) => {
      const [cx, cy] = this.at(p);
      for (const child of this.handles[i].children) set(child, { cx, cy });
      set(this.handles[i], { "aria-valuenow": t[i], "aria-valuetext": `${t[i]} degrees` });
    });
  }

  draw() {
    this.layout();
    this.drawFrame();
    this.drawGrips();
    this.frame();
  }

  compute() {
    this.ride = run(this.now);
  }

  /** Which state is shown. */
  reached() {
    return Math.round(this.share * STEPS);
  }

  told() {
    return tell(this.ride, this.now);
  }

  pace() {
    return 3200;
  }

  controls() {
    const { ui } = this;
    const hand = (name, label, min, max, log = false) => {
      const shape = { label, min, max, step: 0.1, log, format: (v) => nice(v, log ? 2 : 1) };
      return this.slide(name, { ...shape, then: "soon" });
    };
    const own = [
      ["no", "no: B ≠ C"],
      ["yes", "yes"],
    ];
    ui.controls.append(
      hand("a", "weight of the attention energy", 0, 2),
      hand("m", "weight of the memory energy", 0, 4),
      hand("beta", "β, how picky attention is", 0.1, 20, true),
      this.pick("self", "A token may look at itself", own, "play"),
    );
    ui.row.append(this.button("Run again"));
    ui.hint.append(
      "Orange: tokens, drag them to where they should start; the dot on the ring is what the energy sees " +
        "of each. Turn one weight to zero, then the other. Then take only attention, β at 20, and let " +
        "tokens look at themselves.",
    );
  }

  question() {
    const why =
      "Every token is happy when others point its way. Attention spreads what is known; " +
      "it knows nothing itself.";
    return {
      question: "Switch the memories off. What will attention alone do with twelve tokens that know nothing?",
      answers: [
        ["spread", "Keep them spread out"],
        ["heap", "Pull them together"],
      ],
      reply: (key) => `${key === "heap" ? "Yes" : "No"}: they pile up. ${why}`,
      asked: { ...START, ...ANSWERED },
    };
  }

  state() {
    const t = this.reached();
    return { step: t, energy: this.ride.trace[t].total, heaps: heaps(this.ride.states[t]) };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Tokens, element, options, {
    name: "tokens",
    title: "Tokens going downhill",
    label: "Explorable: twelve tokens move down the sum of an attention energy and a memory energy",
    ...{ style: STYLE_TOKENS, start: START, settingsFrom, patience: 400 },
  });
}

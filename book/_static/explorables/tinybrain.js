import { clamp, draggable, legend, line, nice, numberFrom, numbersFrom, set, size, svg } from "./common.js";
import { Explorable, explorable } from "./life.js";

// TinyBrain, live: a visible layer and a memory layer joined by one synapse. It must teach: a
// synapse that works both ways gives a network with an energy, and the network comes to rest;
// break one way off and the guarantee is gone.
//
//   tau_v dv/dt = W^T mhat - v,   vhat = tanh v            (MPS Eq 12-16)
//   tau_m dm/dt = W vhat - m,     mhat = softmax(beta m)
//   E = [v.vhat - sum log cosh v] + [m.mhat - log sum exp(beta m) / beta] - mhat.W vhat

const PATTERNS = [
  [1, 1, 1, 1, -1, -1, -1, -1],
  [1, -1, 1, -1, 1, -1, 1, -1],
  [-1, 1, 1, -1, -1, 1, 1, -1],
];
const NAMES = ["A", "B", "C"];
const STRENGTH = 1.6; // of every weight: tanh(1.6) = 0.92, so a remembered bit is clearly on or off
const DT = 0.05;
const TIME = 18; // how long one run is, in units of the visible time constant
const START = { beta: 0.6, tau: 1, way: "both", v: [0.9, 1.1, -0.3, 0.8, -0.4, 0.5, -1, -0.6] };

/** The synapse: row mu is what memory mu says to the visible neurons. */
export function synapse() {
  return PATTERNS.map((row) => row.map((p) => STRENGTH * p));
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** softmax(beta m), steady for any beta. */
export function share(m, beta) {
  const top = Math.max(...m);
  const raw = m.map((x) => Math.exp(beta * (x - top)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** The three parts of the energy, and their sum. */
export function energies(v, m, beta, W = synapse()) {
  const vhat = v.map(Math.tanh);
  const mhat = share(m, beta);
  const top = Math.max(...m);
  const logCosh = v.reduce(
    (sum, x) => sum + Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2,
    0,
  );
  const logSum = top + Math.log(m.reduce((sum, x) => sum + Math.exp(beta * (x - top)), 0)) / beta;
  const visible = dot(v, vhat) - logCosh;
  const memory = dot(m, mhat) - logSum;
  const joint = -dot(
    mhat,
    W.map((row) => dot(row, vhat)),
  );
  return { visible, memory, synapse: joint, total: visible + memory + joint };
}

/**
 * One Euler step of length dt. `way` "both": the memories answer through the transpose, as the
 * energy says. "one": memory mu answers with the pattern of memory mu + 1, so the synapse is no
 * longer one thing read in two directions, and no energy goes with it.
 */
export function step(v, m, { beta, tau, way }, dt = DT, W = synapse()) {
  const vhat = v.map(Math.tanh);
  const mhat = share(m, beta);
  const answer = way === "both" ? W : W.map((_, mu) => W[(mu + 1) % W.length]);
  const toVisible = v.map((_, i) => answer.reduce((sum, row, mu) => sum + row[i] * mhat[mu], 0));
  return {
    v: v.map((x, i) => x + dt * (toVisible[i] - x)),
    m: m.map((x, mu) => x + (dt / tau) * (dot(W[mu], vhat) - x)),
  };
}

const farthest = (a, b) => Math.max(...a.map((x, i) => Math.abs(x - b[i])));

/** A whole run: states, energies, the steps in which the energy rose, when it came to rest. */
export function run(settings, { time = TIME, dt = DT } = {}) {
  const W = synapse();
  let state = { v: [...settings.v], m: PATTERNS.map(() => 0) };
  const states = [state];
  const trace = [energies(state.v, state.m, settings.beta, W)];
  const rises = [];
  let rest = -1;
  for (let t = 1; t <= Math.round(time / dt); t++) {
    const next = step(state.v, state.m, settings, dt, W);
    const change = Math.max(farthest(next.v, state.v), farthest(next.m, state.m));
    state = next;
    states.push(state);
    trace.push(energies(state.v, state.m, settings.beta, W));
    if (trace[t].total > trace[t - 1].total + 1e-9) rises.push(t);
    if (change > 1e-3 * dt) rest = -1;
    else if (rest < 0) rest = t;
  }
  return { states, trace, rises, rest };
}

/** Overlap of a visible state with each memory, between -1 and 1. */
export function overlaps(v) {
  const vhat = v.map(Math.tanh);
  return PATTERNS.map((row) => dot(row, vhat) / row.length);
}

/** The order in which memories held the visible layer (overlap above 0.6), repeats left out. */
export function visits(states) {
  const order = [];
  for (const { v } of states) {
    const m = overlaps(v);
    const best = m.indexOf(Math.max(...m));
    if (m[best] > 0.6 && order.at(-1) !== best) order.push(best);
  }
  return order;
}

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, settings) {
  if (settings.way === "one") return tellOneWay(ride);
  const steps = ride.trace.length - 1;
  if (ride.rises.length) {
    const why = "Euler's method overshoots when a layer is this fast.";
    return [
      "The steps are too long.",
      `The energy rose in ${ride.rises.length} of ${steps} steps: ${why}`,
      "bad",
    ];
  }
  const m = overlaps(ride.states.at(-1).v);
  const best = m.indexOf(Math.max(...m));
  const fell = nice(ride.trace[0].total - ride.trace.at(-1).total);
  const fall = `The energy fell by ${fell} and rose in none of ${steps} steps.`;
  if (ride.rest < 0) {
    const why = "near the β where memories part, or with a slow memory layer, patience is needed.";
    return ["Still on its way.", `${fall} The last steps are small: ${why}`, ""];
  }
  const when = `after ${nice(ride.rest * DT, 1)} time units`;
  if (m[best] > 0.85) return [`It remembered ${NAMES[best]}, ${when}.`, fall, "good"];
  const why =
    "At this β the memory neurons share their votes, and the visible neurons settle on a compromise.";
  return [`It came to rest ${when}, between the memories.`, `${fall} ${why}`, ""];
}

function tellOneWay(ride) {
  const steps = ride.trace.length - 1;
  const order = visits(ride.states);
  const rose = `The sum that we called energy rose in ${ride.rises.length} of ${steps} steps`;
  if (ride.rest < 0 && order.length > 2) {
    const names = order.slice(0, 6).map((k) => NAMES[k]);
    const why = "With a synapse that is not read the same way in both directions nothing has to fall.";
    return [`It visits ${names.join(", ")} … and never rests.`, `${rose}. ${why}`, "bad"];
  }
  if (ride.rest < 0) {
    return ["It keeps moving.", `After ${TIME} time units it has not come to rest. ${rose}.`, "bad"];
  }
  const even = "This time the sum even fell. Turn β up, or slow the memory layer down.";
  const rest = ride.rises.length ? `${rose} on the way.` : even;
  return ["It came to rest, but nobody promised it.", rest, "bad"];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = numbersFrom(given.v);
  const good = list && list.length === 8 && list.every((x) => Number.isFinite(x) && Math.abs(x) <= 3);
  return {
    beta: numberFrom(given.beta, 0.05, 6, otherwise.beta),
    tau: numberFrom(given.tau, 0.1, 5, otherwise.tau),
    way: ["both", "one"].includes(given.way) ? given.way : otherwise.way,
    v: good ? list : [...otherwise.v],
  };
}

const PARTS = [
  ["total", "total"],
  ["visible", "visible neurons"],
  ["memory", "memory neurons"],
  ["synapse", "synapse"],
];
const STYLE_TINY = `
.amx-tinybrain .bar { fill: var(--amx-query); }
.amx-tinybrain .mem { fill: var(--amx-memory); }
.amx-tinybrain .said { fill: none; stroke: var(--amx-memory); stroke-width: 1; }
.amx-tinybrain .said.up { fill: var(--amx-memory); }
.amx-tinybrain .grip { fill: transparent; cursor: ns-resize; touch-action: none; }
.amx-tinybrain .wire { stroke: var(--amx-muted); stroke-width: 2; fill: none; }
.amx-tinybrain .wire.off { stroke: var(--amx-wrong); stroke-dasharray: 4 4; }
.amx-tinybrain .head { fill: var(--amx-muted); }
.amx-tinybrain .head.off { fill: var(--amx-wrong); }
.amx-tinybrain path.total { stroke: var(--amx-energy); stroke-width: 3; fill: none; }
.amx-tinybrain path.visible { stroke: var(--amx-query); stroke-width: 1.6; fill: none; }
.amx-tinybrain path.memory {
  stroke: var(--amx-memory); stroke-width: 1.6; fill: none; stroke-dasharray: 6 3;
}
.amx-tinybrain path.synapse {
  stroke: var(--amx-muted); stroke-width: 1.6; fill: none; stroke-dasharray: 2 3;
}
.amx-tinybrain .rise { stroke: var(--amx-wrong); stroke-width: 2; opacity: .55; }
.amx-tinybrain .now { stroke: var(--amx-line); stroke-width: 1; }
`;
const MID = 92; // height of the axis of the visible neurons
const MEMORY = 216; // and where the memory neurons begin
const TALL = 56; // of a bar for tanh = 1
const KEYS = { ArrowUp: 0.2, ArrowRight: 0.2, ArrowDown: -0.2, ArrowLeft: -0.2 };

class TinyBrain extends Explorable {
  constructor(life) {
    super(life);
    const group = (name) => svg("g", { class: name });
    [this.marks, this.bars, this.wires] = [group("marks"), group("bars"), group("wires")];
    [this.mems, this.lines, this.labels, this.grips] = "mems lines labels grips".split(" ").map(group);
    this.cursor = svg("line", { class: "now" });
    this.plot = svg("svg", {}, this.marks, this.cursor, this.bars, this.wires);
    this.plot.append(this.mems, this.lines, this.labels, this.grips);
    this.ui.stage.append(this.plot);
    this.handles = START.v.map((_, i) => this.handle(i));
  }

  layout() {
    const w = Math.max(260, this.ui.stage.clientWidth);
    const narrow = w < 480;
    const net = narrow ? w : w * 0.44;
    const left = narrow ? 34 : net + 50;
    const [top, bottom] = narrow ? [330, 484] : [26, 250];
    this.box = { w, narrow, net, left, top, right: w - 6, bottom };
    const all = this.ride.trace.flatMap((e) => PARTS.map(([key]) => e[key]));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    this.y = (e) => bottom - ((e - low) / (high - low || 1)) * (bottom - top - 8) - 4;
    this.x = (t) => left + (t / (this.ride.trace.length - 1)) * (w - 6 - left);
  }

  /** Middle of a neuron among `count` beside one another. */
  across(i, count) {
    return 8 + ((i + 0.5) * (this.box.net - 16)) / count;
  }

  drawFrame() {
    const { box } = this;
    const off = this.now.way === "one";
    this.drawWires(off);
    this.lines.replaceChildren(...[...PARTS].reverse().map(([key]) => svg("path", { class: key, d: "" })));
    const width = box.right - box.left;
    const key = legend(PARTS, { left: box.left + 2, top: box.bottom + 18, width, most: 2 });
    size(this.plot, box.w, box.bottom + 10 + key.height);
    const strong = (x, y, text) => svg("text", { x, y, class: "strong" }, text);
    this.labels.replaceChildren(
      strong(8, 14, "visible neurons"),
      strong(8, MEMORY + 70, "memory neurons and their patterns"),
      strong(box.left, box.top - 10, off ? "the sum that was the energy" : "energy, part by part"),
      ...NAMES.flatMap((_, mu) => this.pattern(mu)),
      ...this.ticks(),
      key.root,
    );
    const axis = (x1, x2, y) => svg("line", { class: "axis", x1, x2, y1: y, y2: y });
    this.marks.replaceChildren(
      axis(4, box.net - 4, MID),
      axis(4, box.net - 4, MEMORY + 24),
      axis(box.left, box.right, box.bottom),
    );
  }

  drawWires(off) {
    const half = this.box.net / 2;
    const kind = off ? " off" : "";
    const text = (x, side, words) => svg("text", { x, y: 172, class: side }, words);
    this.wires.replaceChildren(
      svg("path", { class: "wire", d: `M${half - 26},152V178` }),
      svg("path", { class: "head", d: `M${half - 31},176h10l-5,8z` }),
      svg("path", { class: `wire${kind}`, d: `M${half + 26},184V160` }),
      svg("path", { class: `head${kind}`, d: `M${half + 21},160h10l-5,-8z` }),
      text(half - 38, "end", "W"),
      text(half + 38, "", off ? "someone else’s Wᵀ" : "Wᵀ"),
    );
  }

  /** The name of a memory neuron, and its pattern. */
  pattern(mu) {
    const x = this.across(mu, 3);
    const cells = PATTERNS[mu].map((p, i) => {
      const place = { x: x + 8 * (i - 4), y: MEMORY + 45, width: 6.5, height: 6.5 };
      return svg("rect", { class: p > 0 ? "said up" : "said", ...place });
    });
    return [svg("text", { x, y: MEMORY + 39, class: "mid strong" }, NAMES[mu]), ...cells];
  }

  /** The energy at the start, and at the end where that is somewhere else. */
  ticks() {
    const ends = [this.ride.trace[0].total, this.ride.trace.at(-1).total];
    if (Math.abs(this.y(ends[0]) - this.y(ends[1])) <= 14) ends.pop();
    const tick = (e) => svg("text", { x: this.box.left - 6, y: this.y(e) + 4, class: "end" }, nice(e, 1));
    return ends.map(tick);
  }

  frame() {
    const { ride, box } = this;
    const t = this.reached();
    const { v, m } = ride.states[t];
    const bar = (kind, x, width, from, high) => {
      const place = { x: x - width / 2, width, y: Math.min(from, from - high), rx: 2 };
      return svg("rect", { class: kind, ...place, height: Math.max(1.5, Math.abs(high)) });
    };
    const visible = v.map((x, i) => bar("bar", this.across(i, 8), 18, MID, TALL * Math.tanh(x)));
    this.bars.replaceChildren(...visible);
    const votes = share(m, this.now.beta);
    const memory = votes.map((s, mu) => bar("mem", this.across(mu, 3), 32, MEMORY + 24, 26 * s));
    this.mems.replaceChildren(...memory);
    const stride = box.narrow ? 4 : 2;
    const shown = ride.trace.map((_, k) => k).filter((k) => k <= t && (k % stride === 0 || k === t));
    for (const path of this.lines.children) {
      const key = path.getAttribute("class");
      path.setAttribute("d", line(shown.map((k) => [this.x(k), this.y(ride.trace[k][key])])));
    }
    this.marks.querySelectorAll(".rise").forEach((old) => old.remove());
    const risen = ride.rises.filter((k) => k <= t && k % stride === 0).map((k) => this.x(k));
    const ends = { y1: box.bottom - 7, y2: box.bottom };
    this.marks.append(...risen.map((x) => svg("line", { class: "rise", x1: x, x2: x, ...ends })));
    set(this.cursor, { x1: this.x(t), x2: this.x(t), y1: box.top, y2: box.bottom });
  }

  handle(i) {
    const { now } = this;
    const label = `Visible neuron ${i + 1} of the cue: up and down arrows`;
    const names = { role: "slider", tabindex: "0", "aria-label": label };
    const grip = svg("g", { ...names, "aria-valuemin": -3, "aria-valuemax": 3 });
    grip.append(svg("rect", { class: "grip" }), svg("circle", { class: "amx-ring", r: 11 }));
    const put = (x) => {
      now.v[i] = Number(clamp(x, -3, 3).toFixed(1));
      this.turn({}, "wait");
    };
    const pointed = (event) => {
      const high = MID - (event.clientY - this.plot.getBoundingClientRect().top);
      put(2 * Math.atanh(clamp(high / TALL, -0.95, 0.95)));
    };
    draggable(grip, pointed, () => this.play());
    grip.addEventListener("keydown", (event) => {
      const way = KEYS[event.key];
      if (way) {
        put(now.v[i] + way);
        this.life.soon();
      } else if (event.key === "Enter" || event.key === " ") this.play();
      else return;
      event.preventDefault();
    });
    this.grips.append(grip);
    return grip;
  }

  drawHandles() {
    const { v } = this.now;
    const width = (this.box.net - 16) / 8;
    this.handles.forEach((grip, i) => {
      const x = this.across(i, 8);
      set(grip.firstChild, { x: x - width / 2, width, y: MID - 66, height: 132 });
      set(grip.lastChild, { cx: x, cy: MID - TALL * Math.tanh(v[i]) });
      set(grip, { "aria-valuenow": v[i], "aria-valuetext": nice(v[i], 1) });
    });
  }

  draw() {
    this.layout();
    this.drawFrame();
    this.drawHandles();
    this.frame();
  }

  compute() {
    this.ride = run(this.now);
  }

  /** Which state is shown. */
  reached() {
    return Math.round(this.share * (this.ride.trace.length - 1));
  }

  told() {
    return tell(this.ride, this.now);
  }

  pace() {
    return 3600;
  }

  controls() {
    const { ui } = this;
    const hand = (name, label, min, max) =>
      this.slide(name, { label, min, max, log: true, format: (x) => nice(x), then: "soon" });
    ui.controls.append(
      hand("beta", "β, how sharply memories compete", 0.05, 6),
      hand("tau", "τ of the memory layer (visible: 1)", 0.1, 5),
    );
    const ways = [
      ["both", "both ways"],
      ["one", "one way"],
    ];
    ui.row.append(this.pick("way", "The synapse is read", ways, "play"), this.button("Run again"));
    ui.hint.append(
      "Drag the orange bars to make another cue; the three memories are A, B and C. Then turn β down " +
        "to 0.1, or read the synapse one way and slow the memory layer down.",
    );
  }

  question() {
    const why =
      "A calls B, B calls C, C calls A. The weights are as strong as before, but no energy belongs to them.";
    return {
      question:
        "Each memory neuron hears its own pattern. Suppose it answers with the pattern of its neighbour " +
        "instead. What will the network do?",
      answers: [
        ["rest", "Settle somewhere else"],
        ["move", "Never settle"],
      ],
      reply: (key) => `${key === "move" ? "Yes" : "No"}: it walks in a circle. ${why}`,
      asked: { ...START, way: "one", beta: 3, tau: 2 },
    };
  }

  state() {
    const t = this.reached();
    const rises = this.ride.rises.filter((k) => k <= t).length;
    return { step: t, energy: this.ride.trace[t].total, rises, overlaps: overlaps(this.ride.states[t].v) };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(TinyBrain, element, options, {
    name: "tinybrain",
    title: "TinyBrain, live",
    label:
      "Explorable: two layers of neurons joined by one synapse come to rest in a low place of their energy",
    ...{ style: STYLE_TINY, start: START, settingsFrom, patience: 400 },
  });
}

import { choice, draggable, explorable, nice, node, numberFrom, set, slider, svg } from "./common.js";

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
const STRENGTH = 1.6; // every weight is ±1.6: tanh(1.6) = 0.92, so a remembered bit is clearly on or off
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
  const logCosh = v.reduce((sum, x) => sum + Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2, 0);
  const logSum = top + Math.log(m.reduce((sum, x) => sum + Math.exp(beta * (x - top)), 0)) / beta;
  const visible = dot(v, vhat) - logCosh;
  const memory = dot(m, mhat) - logSum;
  const joint = -dot(mhat, W.map((row) => dot(row, vhat)));
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
    const change = Math.max(...next.v.map((x, i) => Math.abs(x - state.v[i])), ...next.m.map((x, i) => Math.abs(x - state.m[i])));
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
  const steps = ride.trace.length - 1;
  const order = visits(ride.states);
  const fell = nice(ride.trace[0].total - ride.trace.at(-1).total);
  if (settings.way === "one") {
    if (ride.rest < 0 && order.length > 2) {
      return [`It visits ${order.slice(0, 6).map((k) => NAMES[k]).join(", ")} … and never rests.`, `The sum that we called energy rose in ${ride.rises.length} of ${steps} steps. With a synapse that is not read the same way in both directions there is nothing that must fall.`, "bad"];
    }
    if (ride.rest < 0) return ["It keeps moving.", `After ${TIME} time units it has not come to rest. The sum that we called energy rose in ${ride.rises.length} of ${steps} steps.`, "bad"];
    return ["It came to rest, but nobody promised it.", ride.rises.length ? `The sum that we called energy rose in ${ride.rises.length} of ${steps} steps on the way.` : "This time the sum even fell. Turn β up, or slow the memory layer down.", "bad"];
  }
  if (ride.rises.length) return ["The steps are too long.", `The energy rose in ${ride.rises.length} of ${steps} steps: Euler's method overshoots when a layer is this fast.`, "bad"];
  const m = overlaps(ride.states.at(-1).v);
  const best = m.indexOf(Math.max(...m));
  const fall = `The energy fell by ${fell} and rose in none of ${steps} steps.`;
  if (ride.rest < 0) return ["Still on its way.", `${fall} The last steps are small: near the β where memories part, or with a slow memory layer, patience is needed.`, ""];
  const when = `after ${nice(ride.rest * DT, 1)} time units`;
  if (m[best] > 0.85) return [`It remembered ${NAMES[best]}, ${when}.`, fall, "good"];
  return [`It came to rest ${when}, between the memories.`, `${fall} At this β the memory neurons share their votes, and the visible neurons settle on a compromise.`, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = Array.isArray(given.v) ? given.v : given.v == null ? null : String(given.v).split(",").map(Number);
  const good = list && list.length === 8 && list.every((x) => Number.isFinite(x) && Math.abs(x) <= 3);
  return {
    beta: numberFrom(given.beta, 0.05, 6, otherwise.beta),
    tau: numberFrom(given.tau, 0.1, 5, otherwise.tau),
    way: ["both", "one"].includes(given.way) ? given.way : otherwise.way,
    v: good ? list.map(Number) : [...otherwise.v],
  };
}

const PARTS = [["total", "total"], ["visible", "visible neurons"], ["memory", "memory neurons"], ["synapse", "synapse"]];
const STYLE_TINY = `
.amx-tinybrain .axis { stroke: var(--amx-line); stroke-width: 1; }
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
.amx-tinybrain path.memory { stroke: var(--amx-memory); stroke-width: 1.6; fill: none; stroke-dasharray: 6 3; }
.amx-tinybrain path.synapse { stroke: var(--amx-muted); stroke-width: 1.6; fill: none; stroke-dasharray: 2 3; }
.amx-tinybrain .rise { stroke: var(--amx-wrong); stroke-width: 2; opacity: .55; }
.amx-tinybrain .now { stroke: var(--amx-line); stroke-width: 1; }
.amx-tinybrain text.strong { fill: var(--amx-ink); font-weight: 600; }
.amx-tinybrain text.mid { text-anchor: middle; }
`;

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "tinybrain", title: "TinyBrain, live", patience: 400,
    label: "Explorable: two layers of neurons joined by one synapse come to rest in a low place of their energy",
    style: STYLE_TINY, start: START, settingsFrom, play,
  });
  const { ui, now, touched, soon, halt } = life;
  let ride = run(now);
  let moment = 0; // which state is shown

  const plot = svg("svg", {});
  const [bars, wires, mems, lines, marks, labels, grips] = ["bars", "wires", "mems", "lines", "marks", "labels", "grips"].map((name) => svg("g", { class: name }));
  const cursor = svg("line", { class: "now" });
  plot.append(marks, cursor, bars, wires, mems, lines, labels, grips);
  ui.stage.append(plot);

  let w = 600;
  let narrow = false;
  let box = {};

  function layout() {
    w = Math.max(260, ui.stage.clientWidth);
    narrow = w < 480;
    const net = narrow ? w : w * 0.44;
    box = { net, mid: 92, memory: 216, left: narrow ? 34 : net + 50, top: narrow ? 330 : 26, right: w - 6, bottom: narrow ? 484 : 250 };
    const h = box.bottom + 30;
    set(plot, { width: w, height: h, viewBox: `0 0 ${w} ${h}`, style: `height:${h}px` });
  }

  const vx = (i) => 8 + ((i + 0.5) * (box.net - 16)) / 8;
  const mx = (mu) => 8 + ((mu + 0.5) * (box.net - 16)) / 3;
  const tx = (t) => box.left + (t / (ride.trace.length - 1)) * (box.right - box.left);
  function scale() {
    const all = ride.trace.flatMap((e) => [e.total, e.visible, e.memory, e.synapse]);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return (e) => box.bottom - ((e - low) / (high - low || 1)) * (box.bottom - box.top - 8) - 4;
  }

  function drawFrame() {
    const y = scale();
    const off = now.way === "one";
    const half = box.net / 2;
    wires.replaceChildren(
      svg("path", { class: "wire", d: `M${half - 26},152V178` }), svg("path", { class: "head", d: `M${half - 31},176h10l-5,8z` }),
      svg("path", { class: off ? "wire off" : "wire", d: `M${half + 26},184V160` }), svg("path", { class: off ? "head off" : "head", d: `M${half + 21},160h10l-5,-8z` }),
      svg("text", { x: half - 38, y: 172, "text-anchor": "end" }, "W"),
      svg("text", { x: half + 38, y: 172 }, off ? "someone else’s Wᵀ" : "Wᵀ"));
    lines.replaceChildren(...[...PARTS].reverse().map(([key]) => svg("path", { class: key, d: "" })));
    const tick = (e) => svg("text", { x: box.left - 6, y: y(e) + 4, "text-anchor": "end" }, nice(e, 1));
    const last = ride.trace.at(-1);
    const legend = PARTS.map(([key, text], i) => {
      const lx = box.left + 6 + (i % 2) * Math.min(150, (box.right - box.left) / 2);
      const ly = box.bottom + 18 + (i > 1 ? 16 : 0);
      return svg("g", {}, svg("path", { class: key, d: `M${lx - 4},${ly - 4}h16` }), svg("text", { x: lx + 17, y: ly }, text));
    });
    labels.replaceChildren(
      svg("text", { x: 8, y: 14, class: "strong" }, "visible neurons"), svg("text", { x: 8, y: box.memory + 70, class: "strong" }, "memory neurons and their patterns"),
      svg("text", { x: box.left, y: box.top - 10, class: "strong" }, off ? "the sum that was the energy" : "energy, part by part"),
      ...NAMES.map((name, mu) => svg("text", { x: mx(mu), y: box.memory + 39, class: "mid strong" }, name)),
      ...PATTERNS.flatMap((row, mu) => row.map((p, i) =>
        svg("rect", { class: p > 0 ? "said up" : "said", x: mx(mu) + 8 * (i - 4), y: box.memory + 45, width: 6.5, height: 6.5 }))),
      tick(ride.trace[0].total), ...(Math.abs(y(last.total) - y(ride.trace[0].total)) > 14 ? [tick(last.total)] : []), ...legend);
    const height = legend.length && box.bottom + 44;
    set(plot, { height, viewBox: `0 0 ${w} ${height}`, style: `height:${height}px` });
    marks.replaceChildren(svg("line", { class: "axis", x1: 4, x2: box.net - 4, y1: box.mid, y2: box.mid }),
      svg("line", { class: "axis", x1: 4, x2: box.net - 4, y1: box.memory + 24, y2: box.memory + 24 }),
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  }

  function drawState() {
    const t = Math.round(moment);
    const { v, m } = ride.states[t];
    const y = scale();
    bars.replaceChildren(...v.map((x, i) => {
      const a = Math.tanh(x);
      return svg("rect", { class: "bar", x: vx(i) - 9, width: 18, y: Math.min(box.mid, box.mid - 56 * a), height: Math.max(1.5, Math.abs(56 * a)), rx: 2 });
    }));
    mems.replaceChildren(...share(m, now.beta).map((s, mu) =>
      svg("rect", { class: "mem", x: mx(mu) - 16, width: 32, y: box.memory + 24 - 26 * s, height: Math.max(1.5, 26 * s), rx: 2 })));
    const stride = narrow ? 4 : 2;
    for (const [key] of PARTS) {
      const points = [];
      for (let k = 0; k <= t; k += stride) points.push(`${tx(k).toFixed(1)},${y(ride.trace[k][key]).toFixed(1)}`);
      points.push(`${tx(t).toFixed(1)},${y(ride.trace[t][key]).toFixed(1)}`);
      lines.querySelector(`path.${key}`).setAttribute("d", `M${points.join("L")}`);
    }
    const risen = ride.rises.filter((k) => k <= t && k % stride === 0);
    marks.querySelectorAll(".rise").forEach((old) => old.remove());
    marks.append(...risen.map((k) => svg("line", { class: "rise", x1: tx(k), x2: tx(k), y1: box.bottom - 7, y2: box.bottom })));
    set(cursor, { x1: tx(t), x2: tx(t), y1: box.top, y2: box.bottom });
  }

  const handles = START.v.map((_, i) => {
    const grip = svg("g", { role: "slider", tabindex: "0", "aria-label": `Visible neuron ${i + 1} of the cue: up and down arrows`, "aria-valuemin": -3, "aria-valuemax": 3 },
      svg("rect", { class: "grip" }), svg("circle", { class: "amx-ring", r: 11 }));
    const put = (x) => {
      now.v[i] = Number(Math.min(3, Math.max(-3, x)).toFixed(1));
      touched();
      rewind();
    };
    draggable(grip, (event) => put(2 * Math.atanh(Math.min(0.95, Math.max(-0.95, (box.mid - (event.clientY - plot.getBoundingClientRect().top)) / 56)))), () => play());
    grip.addEventListener("keydown", (event) => {
      const way = { ArrowUp: 0.2, ArrowRight: 0.2, ArrowDown: -0.2, ArrowLeft: -0.2 }[event.key];
      if (way) { put(now.v[i] + way); soon(); event.preventDefault(); }
      if (event.key === "Enter" || event.key === " ") { play(); event.preventDefault(); }
    });
    grips.append(grip);
    return grip;
  });

  function drawHandles() {
    handles.forEach((grip, i) => {
      const width = (box.net - 16) / 8;
      set(grip.firstChild, { x: vx(i) - width / 2, width, y: box.mid - 66, height: 132 });
      set(grip.lastChild, { cx: vx(i), cy: box.mid - 56 * Math.tanh(now.v[i]) });
      set(grip, { "aria-valuenow": now.v[i], "aria-valuetext": `${nice(now.v[i], 1)}` });
    });
  }

  function rewind() {
    halt();
    ride = run(now);
    moment = 0;
    betaSlider.show(now.beta);
    tauSlider.show(now.tau);
    way.show(now.way);
    drawAll();
  }

  function drawAll() {
    layout();
    drawFrame();
    drawHandles();
    drawState();
  }

  function play(after = null) {
    rewind();
    life.film(3600, (t) => {
      moment = t * (ride.trace.length - 1);
      drawState();
    }, () => ui.say(...tell(ride, now)), after);
  }

  const betaSlider = slider({
    name: "beta", label: "β, how sharply memories compete", min: 0.05, max: 6, log: true, value: now.beta, format: (x) => nice(x),
    input: (x) => { now.beta = x; touched(); rewind(); soon(); },
  });
  const tauSlider = slider({
    name: "tau", label: "τ of the memory layer (visible: 1)", min: 0.1, max: 5, log: true, value: now.tau, format: (x) => nice(x),
    input: (x) => { now.tau = x; touched(); rewind(); soon(); },
  });
  const way = choice({
    name: "way", label: "The synapse is read", value: now.way, options: [["both", "both ways"], ["one", "one way"]],
    input: (key) => { now.way = key; touched(); play(); },
  });
  ui.controls.append(betaSlider.root, tauSlider.root);
  ui.row.append(way.root, node("button", { type: "button", class: "amx-push", onclick: () => { touched(); play(); } }, "Run again"));
  ui.hint.append("Drag the orange bars to make another cue; the three memories are A, B and C. Then turn β down to 0.1, or read the synapse one way and slow the memory layer down.");

  life.ask({
    question: "Each memory neuron hears its own pattern. Suppose it answers with the pattern of its neighbour instead. What will the network do?",
    answers: [["rest", "Settle somewhere else"], ["move", "Never settle"]],
    reply: (key) => `${key === "move" ? "Yes: it walks in a circle." : "No: it walks in a circle."} A calls B, B calls C, C calls A. The weights are as strong as before, but no energy belongs to them.`,
    asked: { ...START, way: "one", beta: 3, tau: 2 },
  });

  rewind();
  return life.open({ draw: drawAll });
}

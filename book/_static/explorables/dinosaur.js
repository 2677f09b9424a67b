import { colours, line, nice, node, numberFrom, pen, random, reducedMotion, size, svg } from "./common.js";
import { Plane, field, heat } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Teach a dinosaur: memories learn by lowering the energy of what they are shown. It must teach:
// nothing but "lower the energy of the data" is needed, and without noise at the start the
// memories that lie far away never hear of it.
//
//   E(x) = -(1/beta) log sum_mu exp(-beta/2 ||x - xi_mu||^2)
//   d<E>/dxi_mu = <p_mu(x) (xi_mu - x)>,    a step of Adam;    x = point + noise, noise falling

const OUTLINE = `
-1.670 1.563 -1.656 1.657 -1.623 1.747 -1.567 1.824 -1.489 1.878 -1.400 1.913 -1.305 1.928 -1.210 1.924 -1.119
1.897 -1.042 1.840 -0.988 1.762 -0.956 1.672 -0.933 1.579 -0.913 1.486 -0.897 1.391 -0.881 1.297 -0.860 1.204
-0.833 1.112 -0.804 1.021 -0.772 0.931 -0.733 0.844 -0.680 0.764 -0.615 0.694 -0.539 0.636 -0.452 0.597 -0.358
0.582 -0.263 0.591 -0.169 0.608 -0.075 0.624 0.021 0.631 0.116 0.637 0.212 0.641 0.307 0.636 0.401 0.617 0.492
0.587 0.579 0.548 0.662 0.501 0.741 0.447 0.811 0.381 0.875 0.311 0.939 0.240 1.008 0.173 1.077 0.108 1.148
0.043 1.221 -0.019 1.297 -0.077 1.375 -0.132 1.455 -0.184 1.539 -0.230 1.628 -0.265 1.723 -0.278 1.818 -0.275
1.913 -0.266 2.009 -0.260 1.984 -0.313 1.901 -0.361 1.814 -0.402 1.726 -0.439 1.634 -0.466 1.539 -0.470 1.444
-0.456 1.351 -0.436 1.257 -0.418 1.167 -0.386 1.074 -0.376 1.021 -0.452 1.000 -0.546 0.987 -0.640 0.977 -0.735
0.973 -0.831 0.974 -0.927 0.977 -1.022 0.984 -1.118 1.008 -1.210 1.036 -1.302 1.026 -1.393 0.939 -1.430 0.844
-1.442 0.749 -1.442 0.654 -1.429 0.576 -1.379 0.562 -1.286 0.574 -1.191 0.588 -1.096 0.590 -1.001 0.581 -0.906
0.569 -0.811 0.537 -0.721 0.453 -0.693 0.363 -0.724 0.274 -0.760 0.181 -0.774 0.094 -0.734 0.011 -0.688 -0.053
-0.741 -0.067 -0.836 -0.072 -0.931 -0.072 -1.027 -0.069 -1.122 -0.045 -1.215 -0.017 -1.306 -0.030 -1.397
-0.118 -1.431 -0.213 -1.442 -0.308 -1.442 -0.403 -1.427 -0.479 -1.375 -0.489 -1.281 -0.476 -1.186 -0.463
-1.092 -0.463 -0.996 -0.470 -0.901 -0.478 -0.806 -0.490 -0.711 -0.512 -0.618 -0.546 -0.528 -0.597 -0.448
-0.659 -0.375 -0.725 -0.306 -0.789 -0.235 -0.847 -0.159 -0.897 -0.077 -0.944 0.006 -0.988 0.091 -1.028 0.178
-1.066 0.266 -1.099 0.355 -1.128 0.447 -1.153 0.539 -1.174 0.632 -1.192 0.726 -1.208 0.821 -1.217 0.916 -1.221
1.011 -1.226 1.107 -1.239 1.202 -1.271 1.291 -1.337 1.358 -1.430 1.373 -1.524 1.359 -1.612 1.385 -1.656 1.469
`;
/** The points of amtutor.data.dinosaur(), to three decimals: [x0, y0, x1, y1, ...]. */
export const POINTS = Float64Array.from(OUTLINE.trim().split(/\s+/), Number);

export const STEPS = 3000; // half of EM's 6000, at twice its rate
const LR = 0.014;
const BATCH = 64;
const LAST_NOISE = 0.1;
const GAP = 0.35; // a point of the outline that is farther from every memory is not drawn
const SPREAD = 1.5; // of the memories at the start
const EDGE = 3.5; // the picture shows -EDGE..EDGE
const DEAD = 0.05; // of a fair share
const FAR = 45; // e^-45 is lost in the rounding of a sum that is 1 or more
const START = { noise: 1, beta: 60, k: 120, seed: 1 };

/** Pairs of independent standard normal numbers from a uniform die (Box and Muller). */
export function normals(n, dice) {
  const out = new Float64Array(n);
  for (let i = 0; i < n; i += 2) {
    const r = Math.sqrt(-2 * Math.log(1 - dice()));
    const a = 2 * Math.PI * dice();
    out[i] = r * Math.cos(a);
    if (i + 1 < n) out[i + 1] = r * Math.sin(a);
  }
  return out;
}

/** For each point, weights and energy: calls each(b, weights, energy). */
function answer(points, memories, beta, each) {
  const k = memories.length / 2;
  const p = new Float64Array(k);
  for (let b = 0; 2 * b < points.length; b++) {
    let least = Infinity;
    for (let m = 0; m < k; m++) {
      const dx = points[2 * b] - memories[2 * m];
      const dy = points[2 * b + 1] - memories[2 * m + 1];
      p[m] = 0.5 * (dx * dx + dy * dy);
      if (p[m] < least) least = p[m];
    }
    let sum = 0;
    for (let m = 0; m < k; m++) {
      const behind = beta * (p[m] - least);
      p[m] = behind > FAR ? 0 : Math.exp(-behind);
      sum += p[m];
    }
    for (let m = 0; m < k; m++) p[m] /= sum;
    each(b, p, least - Math.log(sum) / beta);
  }
}

/** Mean energy of a batch and its gradient in the memories. */
export function slope(points, memories, beta) {
  const gradient = new Float64Array(memories.length);
  const n = points.length / 2;
  let energy = 0;
  answer(points, memories, beta, (b, p, e) => {
    energy += e / n;
    for (let m = 0; m < p.length; m++) {
      const w = p[m] / n;
      if (w === 0) continue;
      gradient[2 * m] += w * (memories[2 * m] - points[2 * b]);
      gradient[2 * m + 1] += w * (memories[2 * m + 1] - points[2 * b + 1]);
    }
  });
  return { energy, gradient };
}

/** What each memory answers for, in fair shares. */
export function loads(points, memories, beta) {
  const k = memories.length / 2;
  const found = new Float64Array(k);
  answer(points, memories, beta, (b, p) => {
    for (let m = 0; m < k; m++) found[m] += (p[m] * k * 2) / points.length;
  });
  return found;
}

/** One step of Adam, in place: state is {memories, first, second, t}. */
export function adam(state, gradient, lr = LR) {
  const { memories, first, second } = state;
  const t = ++state.t;
  for (let i = 0; i < memories.length; i++) {
    first[i] += 0.1 * (gradient[i] - first[i]);
    second[i] = 0.999 * second[i] + 0.001 * gradient[i] * gradient[i];
    memories[i] -= ((lr / (1 - 0.9 ** t)) * first[i]) / (Math.sqrt(second[i] / (1 - 0.999 ** t)) + 1e-8);
  }
}

/** Std of the noise at a step: a straight line from the first to the last. */
export function noiseAt(noise, step) {
  return noise + (LAST_NOISE - noise) * (step / (STEPS - 1));
}

/** A pupil: memories at random, and `learn(n)`, which takes n steps and returns the last energy. */
export function pupil({ noise, beta, k, seed }) {
  const dice = random(seed);
  const memories = normals(2 * k, dice).map((z) => SPREAD * z);
  const state = { memories, first: new Float64Array(2 * k), second: new Float64Array(2 * k), t: 0 };
  const n = POINTS.length / 2;
  const batch = (step) => {
    const s = noiseAt(noise, step);
    const shake = normals(2 * BATCH, dice);
    for (let b = 0; b < BATCH; b++) {
      const row = Math.floor(n * dice());
      shake[2 * b] = POINTS[2 * row] + s * shake[2 * b];
      shake[2 * b + 1] = POINTS[2 * row + 1] + s * shake[2 * b + 1];
    }
    return shake;
  };
  return {
    state,
    batch,
    learn(steps) {
      let energy = 0;
      for (let i = 0; i < steps && state.t < STEPS; i++) {
        const found = slope(batch(state.t), state.memories, beta);
        energy = found.energy;
        adam(state, found.gradient);
      }
      return energy;
    },
  };
}

/** Seven fixed jitters of each point: who answers for none of them is dead. */
export const CROWD = (() => {
  const shake = normals(7 * POINTS.length, random(7));
  return shake.map((z, i) => POINTS[i % POINTS.length] + LAST_NOISE * z);
})();

/** Which memories are dead, as booleans. */
export function dead(memories, beta) {
  return Array.from(loads(CROWD, memories, beta), (load) => load < DEAD);
}

/** The energies of a grid of places; Infinity where all memories are too far for a number. */
export function energies({ xs, ys }, memories, beta) {
  const k = memories.length / 2;
  const part = (places, d) => {
    const out = new Float64Array(places.length * k);
    for (let i = 0; i < places.length; i++) {
      for (let m = 0; m < k; m++)
        out[i * k + m] = Math.exp(-0.5 * beta * (places[i] - memories[2 * m + d]) ** 2);
    }
    return out;
  };
  const [across, down] = [part(xs, 0), part(ys, 1)];
  const out = new Float64Array(xs.length * ys.length);
  for (let j = 0, p = 0; j < ys.length; j++) {
    for (let i = 0; i < xs.length; i++, p++) {
      let sum = 0;
      for (let m = 0, u = i * k, v = j * k; m < k; m++) sum += across[u + m] * down[v + m];
      out[p] = -Math.log(sum) / beta;
    }
  }
  return out;
}

/** Why memories died. */
function reason({ noise, beta }) {
  if (noise < 0.5) {
    return (
      "They lie where no data fall, another memory answers for everything near them, " +
      "and nothing ever pulls. Start with more noise."
    );
  }
  if (beta > 120) {
    return "The valleys are so narrow that the nearest memory takes all. Lower β, or start with more noise.";
  }
  return "Other memories answer for everything that falls near them.";
}

/** How far the loneliest point of the dinosaur is from the memory that is nearest to it. */
export function farthest(memories) {
  let far = 0;
  for (let b = 0; b < POINTS.length; b += 2) {
    let near = Infinity;
    for (let m = 0; m < memories.length; m += 2) {
      near = Math.min(near, Math.hypot(POINTS[b] - memories[m], POINTS[b + 1] - memories[m + 1]));
    }
    far = Math.max(far, near);
  }
  return far;
}

/** What happened, in words. */
export function tell(count, { noise, k, beta }, far) {
  if (far > GAP && count / k < 0.05) {
    const few = "They are too few for so long a line.";
    const wide = "So wide a valley answers for many points: memories gather in few places, legs are lost.";
    return [`${k - count} of ${k} memories are alive, and there is no dinosaur.`, k < 30 ? few : wide, ""];
  }
  const drew = `${k - count} of ${k} memories drew the dinosaur`;
  if (count === 0) return [`${drew}.`, "Every one of them answers for a piece of the line.", "good"];
  const are = count === 1 ? "One is dead" : `${count} are dead`;
  if (count / k < 0.05) return [`${drew}.`, `${are}: no point of the dinosaur is theirs.`, "good"];
  return [`${are}, of ${k}.`, reason({ noise, beta }), "bad"];
}

/** Settings with everything checked: what is missing or out of range is the start's. */
export function settingsFrom(given = {}) {
  return {
    noise: numberFrom(given.noise, 0.1, 1.5, START.noise),
    beta: numberFrom(given.beta, 5, 250, START.beta),
    k: Math.round(numberFrom(given.k, 10, 200, START.k)),
    seed: Math.round(numberFrom(given.seed, 1, 999, START.seed)),
  };
}

const STYLE_DINOSAUR = `
.amx-dinosaur .board {
  display: grid; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); gap: 1rem; align-items: end;
}
.amx-dinosaur canvas {
  aspect-ratio: 1; border: 1px solid var(--amx-line); border-radius: 8px; overflow: hidden;
}
.amx-dinosaur .e { fill: none; stroke: var(--amx-energy); stroke-width: 2; }
.amx-dinosaur .d { fill: none; stroke: var(--amx-wrong); stroke-width: 2; }
@media (max-width: 480px) { .amx-dinosaur .board { grid-template-columns: 1fr; } }
`;
const CELLS = 56; // of the picture, along each side
const CHUNK = 15; // steps of learning a frame

class Dinosaur extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([-EDGE, EDGE], [-EDGE, EDGE]);
    this.trace = [];
    this.gone = [];
    const label =
      "Points of a dinosaur in orange, memories in blue, dead memories as vermilion crosses, " +
      "low energy in green.";
    this.canvas = node("canvas", { role: "img", "aria-label": label });
    this.plot = svg("svg", { "aria-hidden": "true" });
    this.ui.stage.append(node("div", { class: "board" }, this.canvas, this.plot));
  }

  draw() {
    const { plane } = this;
    plane.w = plane.h = Math.max(200, this.canvas.clientWidth);
    const hue = colours(this.ui.root);
    const ink = pen(this.canvas, plane.w, plane.h);
    const { memories } = this.student.state;
    const values = energies(plane.cells(CELLS, CELLS), memories, this.now.beta);
    const grid = { ...field(values, CELLS, CELLS), low: 0, high: 0.35 };
    const depth = (share) => 0.59 * (1 - share);
    heat(ink, grid, { w: plane.w, h: plane.h, colour: hue.energy, paper: hue.paper, depth });
    ink.fillStyle = hue.query;
    ink.beginPath();
    for (let i = 0; i < POINTS.length; i += 2) {
      const [x, y] = plane.to([POINTS[i], POINTS[i + 1]]);
      ink.moveTo(x + 2.2, y);
      ink.arc(x, y, 2.2, 0, 7);
    }
    ink.fill();
    for (let m = 0; 2 * m < memories.length; m++) {
      const [x, y] = plane.to([memories[2 * m], memories[2 * m + 1]]);
      if (this.gone[m]) cross(ink, x, y, hue);
      else dot(ink, x, y, hue);
    }
    this.drawTrace();
  }

  drawTrace() {
    const w = Math.max(200, this.plot.clientWidth || this.plot.parentNode.clientWidth);
    const h = w < 260 ? 270 : 230;
    size(this.plot, w, h);
    this.plot.replaceChildren(
      ...this.panel("e", "energy of a batch", { w, top: 22, bottom: 0.44 * h }),
      ...this.panel("d", "dead memories", { w, top: 0.44 * h + 34, bottom: h - 8 }),
    );
  }

  /** One number of the trace over the steps. */
  panel(key, text, { w, top, bottom }) {
    const values = this.trace.map((row) => row[key]);
    const high = Math.max(key === "d" ? 10 : 0.01, ...values);
    const low = Math.min(0, ...values);
    const place = (row) => [
      6 + (row.t / STEPS) * (w - 12),
      bottom - ((row[key] - low) / (high - low)) * (bottom - top - 4),
    ];
    const last = this.trace.at(-1);
    const value = key === "d" ? `${last.d} of ${this.now.k}` : nice(last.e, 3);
    return [
      svg("text", { x: 6, y: top - 8, class: "strong" }, `${text}: ${value}`),
      svg("line", { class: "axis", x1: 6, x2: w - 6, y1: bottom, y2: bottom }),
      svg("path", { class: key, d: line(this.trace.map(place)) }),
    ];
  }

  note(e) {
    this.gone = dead(this.student.state.memories, this.now.beta);
    this.trace.push({ t: this.student.state.t, e, d: this.gone.filter(Boolean).length });
  }

  compute() {
    const { now } = this;
    this.student = pupil(now);
    this.trace = [];
    const first = pupil(now); // looks at a batch without using up the die of the student
    this.note(slope(first.batch(0), first.state.memories, now.beta).energy);
  }

  told() {
    return tell(this.trace.at(-1).d, this.now, farthest(this.student.state.memories));
  }

  /** Learn; a frame shows some steps, and where motion is unwelcome nothing but the end is shown. */
  play(after = null) {
    this.wait();
    const still = reducedMotion();
    const frame = () => {
      const began = performance.now();
      do this.note(this.student.learn(CHUNK));
      while (still && this.student.state.t < STEPS && performance.now() - began < 12);
      const done = this.student.state.t >= STEPS;
      if (done || !still) this.draw();
      return done;
    };
    this.life.steps(frame, () => this.say(), after);
  }

  controls() {
    const { ui, now } = this;
    const hand = (name, label, shape) => this.slide(name, { label, then: "soon", ...shape });
    const noise = { min: 0.1, max: 1.5, step: 0.05, format: (x) => nice(x) };
    const narrow = { min: 5, max: 250, log: true, format: (x) => nice(x, 0) };
    ui.controls.append(
      hand("noise", "noise at the start (0.1 at the end)", noise),
      hand("beta", "β, how narrow a valley is", narrow),
      hand("k", "K, memories", { min: 10, max: 200, step: 5, format: String }),
    );
    ui.row.append(this.button("Teach again, from another start", () => ({ seed: (now.seed % 999) + 1 })));
    this.visits("Orange: what it is shown. Try", [
      ["narrow valleys", { beta: 200 }],
      ["wide valleys", { beta: 8 }],
      ["only 30 memories", { k: 30 }],
      ["no extra noise", { noise: 0.1 }],
    ]);
  }

  question() {
    const why =
      "A memory far from the data answers for none of them, so nothing pulls it. " +
      "Noise at the start carries the data to it.";
    return {
      question:
        "Suppose we leave the noise at 0.1 all along. " +
        "How many of the 120 memories will never learn anything?",
      answers: [
        ["0", "None"],
        ["5", "About five"],
        ["30", "About thirty"],
      ],
      reply: (key) => `${key === "30" ? "Yes" : "No"}: about thirty. ${why}`,
      asked: { ...START, noise: 0.1 },
    };
  }

  state() {
    return { dead: this.trace.at(-1).d, step: this.trace.at(-1).t };
  }
}

function dot(ink, x, y, hue) {
  Object.assign(ink, { fillStyle: hue.memory, strokeStyle: hue.paper, lineWidth: 1 });
  ink.beginPath();
  ink.arc(x, y, 3.6, 0, 7);
  ink.fill();
  ink.stroke();
}

function cross(ink, x, y, hue) {
  Object.assign(ink, { strokeStyle: hue.wrong, lineWidth: 2 });
  ink.beginPath();
  for (const way of [-4, 4]) {
    ink.moveTo(x - 4, y - way);
    ink.lineTo(x + 4, y + way);
  }
  ink.stroke();
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Dinosaur, element, options, {
    name: "dinosaur",
    title: "Teach a dinosaur",
    label:
      "Explorable: memories in the plane learn the outline of a dinosaur " +
      "by lowering the energy of noisy points of it",
    ...{ style: STYLE_DINOSAUR, start: START, settingsFrom },
  });
}

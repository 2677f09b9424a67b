import { clamp, colours, nice, node, numberFrom, numbersFrom, pen, push, random, svg } from "./common.js";
import { Plane, memoryGrips } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Past the end of time. It must teach: a sampler is a memory that cools; when its clock stops it rests as
// a memory does, and when the clock runs on through zero all it made drowns again.
//
//   x <- x - (1 - w'/w) (x - m(x)),   p = softmax_mu(-|x - xi_mu|^2 / (2 w^2)),   w the width of the noise

const NAMES = "ABCDE";
const START = [
  [0.95, 0.3],
  [-0.3, 0.95],
  [-0.95, -0.3],
  [0.35, -0.95],
  [0.05, 0.05],
];
const WIDEST = 3; // the noise at the start, in which samples begin
const NARROWEST = 0.03; // the noise at the end of time, and that of the cold memory
const STEPS = 60; // from the start to the end of time, and as many past it
const SAMPLES = 60;
const COOLING = 0.1; // step size of the memory, and of a sampler whose clock is held
const LATEST = 2; // the slider ends at twice T
const INITIAL = { time: 1.5, past: "hold", m: START };
const WAYS = ["hold", "on", "again"];

/** The mean of the memories under their weights, at noise of width w. */
export function mean([x, y], memories, w) {
  const gaps = memories.map(([a, b]) => (x - a) ** 2 + (y - b) ** 2);
  const least = Math.min(...gaps);
  let [sum, mx, my] = [0, 0, 0];
  memories.forEach(([a, b], i) => {
    const pull = Math.exp(-(gaps[i] - least) / (2 * w * w));
    sum += pull;
    mx += pull * a;
    my += pull * b;
  });
  return [mx / sum, my / sum];
}

/** One step of recall: a share `eta` of the way to the mean. */
export function step([x, y], memories, w, eta) {
  const [mx, my] = mean([x, y], memories, w);
  return [x - eta * (x - mx), y - eta * (y - my)];
}

/** The width of the noise at each of the 2 * STEPS + 1 moments; below zero it is on the other side. */
export function widths(past) {
  const down = (k) => WIDEST * (NARROWEST / WIDEST) ** (k / STEPS);
  return Array.from({ length: LATEST * STEPS + 1 }, (_, k) => {
    if (k <= STEPS) return down(k);
    if (past === "hold") return NARROWEST;
    return past === "on" ? -down(LATEST * STEPS - k + 1) : down(k - STEPS - 1);
  });
}

/** Every state of a diffusion sampler, moment by moment, past its end by one of three ways. */
export function sampler(starts, memories, past) {
  const w = widths(past);
  const frames = [starts];
  for (let k = 0; k + 1 < w.length; k++) {
    const held = past === "hold" && k >= STEPS;
    const jump = past === "again" && k === STEPS; // the clock is put back, nothing moves
    const eta = held ? COOLING : jump ? 0 : 1 - w[k + 1] / w[k];
    frames.push(frames[k].map((x) => step(x, memories, Math.abs(w[k]), eta)));
  }
  return frames;
}

/** Every state of a memory that is cold from the beginning. */
export function memory(starts, memories) {
  const frames = [starts];
  for (let k = 0; k < LATEST * STEPS; k++) {
    frames.push(frames[k].map((x) => step(x, memories, NARROWEST, COOLING)));
  }
  return frames;
}

/** Pure noise, always the same: SAMPLES points of N(0, WIDEST^2). */
export function noise() {
  const dice = random(8);
  return Array.from({ length: SAMPLES }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - dice())), 2 * Math.PI * dice()];
    return [WIDEST * radius * Math.cos(angle), WIDEST * radius * Math.sin(angle)];
  });
}

const gapTo = ([x, y], memories) => memories.map(([a, b]) => Math.hypot(x - a, y - b));

export function nearest(place, memories) {
  const gaps = gapTo(place, memories);
  return gaps.indexOf(Math.min(...gaps));
}

/** How many places are nearest to each memory. */
export function shares(places, memories) {
  const counts = memories.map(() => 0);
  for (const place of places) counts[nearest(place, memories)]++;
  return counts;
}

const frameOf = (time) => Math.round(clamp(time, 0, LATEST) * STEPS);

/** Of a time: how many are nearest to what they are nearest to at T, the widest gap, how far moved. */
export function facts(frames, memories, time) {
  const [now, end] = [frames[frameOf(time)], frames[STEPS]];
  const same = now.filter((x, i) => nearest(x, memories) === nearest(end[i], memories)).length;
  const gap = Math.max(...now.map((x) => Math.min(...gapTo(x, memories))));
  const moved = Math.max(...now.map(([x, y], i) => Math.hypot(x - end[i][0], y - end[i][1])));
  return { same, gap, moved };
}

export function settingsFrom(given) {
  const list = numbersFrom(given.m) ?? [];
  const good =
    list.length === 2 * START.length && list.every((v) => Number.isFinite(v) && Math.abs(v) <= 1.5);
  return {
    time: numberFrom(given.time, 0, LATEST, INITIAL.time),
    past: WAYS.includes(given.past) ? given.past : INITIAL.past,
    m: START.map((p, i) => (good ? [list[2 * i], list[2 * i + 1]] : [...p])),
  };
}

/** What the sampler does at this time, in words: [lead, rest, kind]. */
export function tell(frames, { m, past, time }) {
  const { same, gap, moved } = facts(frames, m, time);
  const width = nice(Math.abs(widths(past)[frameOf(time)]));
  if (frameOf(time) < STEPS) {
    const rest = `Of ${SAMPLES} samples, ${same} are nearest to the memory that they will end at.`;
    return [`The noise is ${width} wide.`, `${rest} The cold memory has chosen already.`, ""];
  }
  if (frameOf(time) === STEPS) {
    return ["Time is up.", `No sample is farther than ${nice(gap)} from a memory. And now?`, "good"];
  }
  if (past === "hold") {
    const rest = `Since T no sample has moved more than ${nice(moved)}:`;
    return ["They rest.", `${rest} with its clock held, a sampler is a memory.`, "good"];
  }
  if (past === "on") {
    const rest = `The farthest sample is ${nice(gap)} from any memory:`;
    return ["They drown again.", `${rest} behind zero the noise comes back as its mirror image.`, "bad"];
  }
  const rest = `The clock was put back, the noise was not:`;
  const kept = `${same} of ${SAMPLES} are nearest to what they were at T.`;
  return [`The noise is thought to be ${width} wide.`, `${rest} ${kept}`, same === SAMPLES ? "" : "bad"];
}

const STYLE_PAST = `
.amx-pasttime .boards { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .9rem;
  align-items: end; }
.amx-pasttime .small { font-size: .86rem; color: var(--amx-muted); margin-bottom: .3rem; }
.amx-pasttime .plot {
  position: relative; aspect-ratio: 1; overflow: hidden; border: 1px solid var(--amx-line);
  border-radius: 8px;
}
.amx-pasttime .plot > * { position: absolute; inset: 0; height: 100%; }
.amx-pasttime .memory { cursor: grab; touch-action: none; }
.amx-pasttime .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-pasttime .memory text {
  fill: var(--amx-paper); font-weight: 700; text-anchor: middle; font-size: 11px; pointer-events: none;
}
.amx-pasttime .mark { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-pasttime svg text.count { fill: var(--amx-ink); font-weight: 600; }
.amx-pasttime .bell { fill: none; stroke: var(--amx-energy); stroke-width: 1.2; opacity: .8; }
`;

/** One of the two pictures: its samples on a canvas, memories and bells above. */
const REACH = { x0: -1.5, x1: 1.5, y0: -1.5, y1: 1.5 }; // of the memories

class Board {
  constructor(title, label) {
    this.plane = new Plane([-2.6, 2.6], [-2.6, 2.6]);
    this.land = node("canvas", { role: "img", "aria-label": label });
    this.bells = START.map(() => svg("circle", { class: "bell" }));
    this.counts = START.map(() => svg("text", { class: "count mid" }));
    this.over = svg("svg", {}, ...this.bells, ...this.counts);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.root = node("div", {}, node("p", { class: "small" }, title), this.plot);
  }

  /** Samples at a frame, with the ways they came by lately, and bells of this width. */
  draw(frames, at, memories, width, look) {
    const { plane } = this;
    if (!plane.resize(this.plot)) return;
    this.over.setAttribute("viewBox", `0 0 ${plane.w} ${plane.h}`);
    const radius = (Math.abs(width) * plane.w) / (plane.x1 - plane.x0);
    this.bells.forEach((bell, i) => {
      const [cx, cy] = plane.to(memories[i]);
      for (const [key, value] of Object.entries({ cx, cy, r: radius })) bell.setAttribute(key, value);
    });
    shares(frames[at], memories).forEach((count, i) => {
      const [x, y] = plane.to(memories[i]);
      this.counts[i].setAttribute("x", x);
      this.counts[i].setAttribute("y", y - 14);
      this.counts[i].textContent = count;
    });
    const context = pen(this.land, plane.w, plane.h);
    context.strokeStyle = look.trajectory;
    context.globalAlpha = 0.5;
    context.beginPath();
    for (let i = 0; i < SAMPLES; i++) {
      for (let k = Math.max(0, at - 8); k <= at; k++) {
        const [x, y] = plane.to(frames[k][i]);
        if (k === Math.max(0, at - 8)) context.moveTo(x, y);
        else context.lineTo(x, y);
      }
    }
    context.stroke();
    context.globalAlpha = 0.9;
    context.fillStyle = at === 0 ? look.query : look.trajectory;
    context.beginPath();
    for (const [x, y] of frames[at].map((z) => plane.to(z))) {
      context.moveTo(x + 2.4, y);
      context.arc(x, y, 2.4, 0, 7);
    }
    context.fill();
    context.globalAlpha = 1;
  }
}

class PastTime extends Explorable {
  constructor(life) {
    super(life);
    this.starts = noise();
    this.time = 0; // what is shown; the setting is where it goes
    this.left = new Board("a memory, cold from the start", "Sixty states of a memory and five stored points");
    this.right = new Board(
      "a diffusion sampler",
      "Sixty samples of a diffusion model and five stored points",
    );
    this.marks = START.map(() => svg("circle", { class: "mark", r: 5 }));
    this.left.over.append(...this.marks);
    const { plane, over } = this.right;
    this.pegs = memoryGrips(this, NAMES, { plane, over, within: REACH, radius: 8 });
    this.ui.stage.append(node("div", { class: "boards" }, this.left.root, this.right.root));
  }

  compute() {
    const { m, past } = this.now;
    this.films = [memory(this.starts, m), sampler(this.starts, m, past)];
    this.widths = widths(past);
  }

  draw() {
    const { m } = this.now;
    const at = frameOf(this.time);
    const look = colours(this.ui.root);
    this.left.draw(this.films[0], at, m, NARROWEST, look);
    this.right.draw(this.films[1], at, m, this.widths[at], look);
    this.pegs.forEach((peg, i) => peg.show(this.right.plane, m[i]));
    this.marks.forEach((mark, i) => {
      const [cx, cy] = this.left.plane.to(m[i]);
      mark.setAttribute("cx", cx);
      mark.setAttribute("cy", cy);
    });
    this.hands.time.show(this.time);
  }

  seek(t) {
    this.time = this.now.time * t;
  }

  told() {
    return tell(this.films[1], this.now);
  }

  pace() {
    return 2600 * Math.max(0.2, this.now.time);
  }

  controls() {
    const { ui } = this;
    const clock = this.slide("time", {
      label: "time of the sampler (1: its end, T)",
      ...{ min: 0, max: LATEST, step: 1 / STEPS, format: (v) => `${nice(v)} T` },
      input: (v) => this.turn({ time: Number(v.toFixed(4)) }),
    });
    this.hands.time.mark([1]);
    const past = this.pick("past", "past T, its clock", [
      ["hold", "stands still"],
      ["on", "runs on"],
      ["again", "starts again"],
    ]);
    ui.controls.append(clock, past);
    ui.row.append(push("Play from noise", () => this.play()));
    this.visits("Numbers count the samples nearest to each memory. Drag one, or the time. Or try", [
      ["half-way", { time: 0.5 }],
      ["clock runs on", { time: 1.6, past: "on" }],
      ["clock starts again", { time: 1.3, past: "again" }],
    ]);
  }

  question() {
    return {
      question:
        "At T the sampler stops, and each sample is at a memory. Suppose nobody stops it, and its " +
        "clock runs on, through zero. What will the samples do?",
      answers: [
        ["stay", "Stay where they are"],
        ["leave", "Leave again"],
      ],
      reply: (key) =>
        `${key === "leave" ? "Yes, they leave." : "They leave."} A sampler goes by its width of noise; ` +
        "behind zero the width grows again, and pushes. A memory has no clock, and stays.",
      asked: { ...INITIAL, time: 1.6, past: "on" },
      answer: (done) => this.play(done, { from: 0.5 }), // shortly before T
    };
  }

  state() {
    return {
      time: this.time,
      past: this.now.past,
      width: this.widths[frameOf(this.time)],
      ...facts(this.films[1], this.now.m, this.time),
    };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(PastTime, element, options, {
    name: "pasttime",
    title: "Past the end of time",
    label: "Explorable: a memory and a diffusion sampler side by side, and a slider of time",
    ...{ style: STYLE_PAST, start: INITIAL, settingsFrom },
    shared: ({ time, past, m }) => ({ time, past, m: m.flat() }),
  });
}

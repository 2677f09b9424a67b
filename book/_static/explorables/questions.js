import { clamp, colours, line, nice, node, numberFrom, pen, set, size, svg } from "./common.js";
import { Plane, field, heat, point } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// One energy, three questions. It must teach: one energy of pairs answers "how high at nine?",
// "when is it three metres?" and "is this note right?", and all that differs is what is held still.
//
//   E(x, y) = -(1/beta) log sum_mu exp(-beta/2 [mix (x - a)^2 + (1 - mix) (y - b)^2])
//   a full step puts what is free on the weighted mean of the notes; what is held stays.

const HOURS = 24;
const METRES = [0, 5];
const START = { ask: "x", beta: 10, mix: 0.3, x: 9, y: 4.2 };
const STEPS = 400;
const ASK = { x: "hour", y: "height", none: "nothing" };
const TABLE = `
0.2,1.10 0.4,1.02 0.9,1.02 1.2,0.97 1.4,1.30 1.8,1.49 2.1,1.84 2.5,2.15 2.8,2.24 3.3,2.78 3.6,3.08
3.9,3.33 4.1,3.50 4.4,3.65 4.8,3.61 5.1,3.79 5.6,4.09 5.7,4.28 6.3,4.08 6.4,4.15 7.0,4.08 7.1,4.02
7.6,3.68 7.9,3.41 8.2,3.43 8.5,2.85 9.0,2.63 9.2,2.44 9.6,2.33 9.7,2.11 10.3,1.70 10.6,1.46 10.9,1.21
11.2,1.07 11.6,0.82 12.0,1.00 12.1,0.92 12.4,0.88 12.8,0.97 13.1,0.83 13.6,1.14 13.8,1.31 14.1,1.36
14.6,1.98 15.0,2.25 15.2,2.52 15.5,2.67 15.8,2.71 16.2,3.12 16.3,3.20 16.7,3.56 17.3,3.77 17.7,4.12
17.8,4.02 18.0,4.10 18.5,4.06 18.8,4.12 19.2,3.99 19.6,4.00 19.9,3.57 20.1,3.82 20.5,3.27 20.9,3.17
21.0,2.96 21.4,2.63 21.8,2.24 22.1,2.07 22.4,1.86 22.9,1.61 23.3,1.18 23.5,1.12 23.8,1.09
`;

/** The notebook: pairs of hour and height. */
export const NOTES = TABLE.trim()
  .split(/\s+/)
  .map((pair) => pair.split(",").map(Number));
const [NOTE_X, NOTE_Y] = [0, 1].map((d) => Float64Array.from(NOTES, (note) => note[d]));
const COUNT = NOTES.length;
const pull = new Float64Array(COUNT); // how strongly each note pulls; used again by every call

/** The energy at (x, y), and where the notes that pull there have their mean: [energy, hour, height]. */
function look(x, y, { beta, mix }) {
  let top = -Infinity;
  for (let k = 0; k < COUNT; k++) {
    pull[k] = -0.5 * beta * (mix * (x - NOTE_X[k]) ** 2 + (1 - mix) * (y - NOTE_Y[k]) ** 2);
    if (pull[k] > top) top = pull[k];
  }
  let [sum, hour, height] = [0, 0, 0];
  for (let k = 0; k < COUNT; k++) {
    const w = Math.exp(pull[k] - top);
    sum += w;
    hour += w * NOTE_X[k];
    height += w * NOTE_Y[k];
  }
  return [-(top + Math.log(sum)) / beta, hour / sum, height / sum];
}

export const energy = ([x, y], settings) => look(x, y, settings)[0];

/**
 * The energies of a whole grid. The notes' pulls are products of a part of x and a part of y, so only the
 * edges of the grid need exponentials. Where all pulls are below the smallest number it is Infinity: that
 * is above 708 / beta, far over everything that is drawn.
 */
export function energies({ xs, ys }, { beta, mix }) {
  const part = (places, notes, share) => {
    const out = new Float64Array(places.length * COUNT);
    for (let i = 0; i < places.length; i++) {
      for (let k = 0; k < COUNT; k++) {
        out[i * COUNT + k] = Math.exp(-0.5 * beta * share * (places[i] - notes[k]) ** 2);
      }
    }
    return out;
  };
  const [across, down] = [part(xs, NOTE_X, mix), part(ys, NOTE_Y, 1 - mix)];
  const out = new Float64Array(xs.length * ys.length);
  for (let j = 0, p = 0; j < ys.length; j++) {
    for (let i = 0; i < xs.length; i++, p++) {
      let sum = 0;
      for (let k = 0, u = i * COUNT, v = j * COUNT; k < COUNT; k++) sum += across[u + k] * down[v + k];
      out[p] = -Math.log(sum) / beta;
    }
  }
  return out;
}

/** One full step: the weighted mean of the notes in what is free. */
export function step([x, y], settings) {
  const [, hour, height] = look(x, y, settings);
  return [settings.ask === "x" ? x : hour, settings.ask === "y" ? y : height];
}

/** All states from the start until nothing moves. */
export function descend(settings, start = [settings.x, settings.y]) {
  const path = [start];
  for (let t = 0; t < STEPS; t++) {
    const [x, y] = path.at(-1);
    const next = step([x, y], settings);
    path.push(next);
    if (Math.abs(next[0] - x) + Math.abs(next[1] - y) < 1e-6) break;
  }
  return path;
}

/**
 * The valleys along the free line, in order; for nothing held, none. A step stands still at the bottom of
 * one: below it the step goes up, above it down. Those closer than a hundredth of the line count once.
 */
export function answers(settings) {
  if (settings.ask === "none") return [];
  const along = settings.ask === "x" ? 1 : 0;
  const [low, high] = along ? METRES : [0, HOURS];
  const rise = (u) => look(along ? settings.x : u, along ? u : settings.y, settings)[1 + along] - u;
  const found = [];
  const parts = 480;
  let [from, before] = [low, rise(low)];
  for (let k = 1; k <= parts; k++) {
    const to = low + ((high - low) * k) / parts;
    const now = rise(to);
    if (before > 0 && now <= 0) {
      const bottom = standstill(rise, from, to);
      if (!(bottom - found.at(-1) < 0.01 * (high - low))) found.push(bottom);
    }
    [from, before] = [to, now];
  }
  return found;
}

/** Where a function that goes from positive to negative is zero, by halving. */
function standstill(rise, low, high) {
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (rise(middle) > 0) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Kernel regression: the mean of the notes near what is held, whatever the rest says. */
export function average({ ask, beta, mix, x, y }) {
  const gap = ask === "y" ? ([, b]) => (1 - mix) * (y - b) ** 2 : ([a]) => mix * (x - a) ** 2;
  const exponents = NOTES.map((note) => -0.5 * beta * gap(note));
  const top = Math.max(...exponents);
  let [sum, mean] = [0, 0];
  exponents.forEach((e, i) => {
    sum += Math.exp(e - top);
    mean += Math.exp(e - top) * NOTES[i][ask === "y" ? 0 : 1];
  });
  return mean / sum;
}

const clock = (hour) => {
  const minutes = clamp(Math.round(hour * 60), 0, 24 * 60 - 1);
  return `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
};
const metres = (y) => `${nice(y, 1)} m`;

/** What happened, in words: [lead, rest, kind]. */
export function tell(path, settings) {
  const steps = `${path.length - 1} ${path.length === 2 ? "step" : "steps"}`;
  return { x: tellHeight, y: tellHour, none: tellNote }[settings.ask](path.at(-1), settings, steps);
}

function tellHeight([x, y], settings, steps) {
  const found = answers(settings);
  const many = `The line has ${found.length} valleys (${found.map(metres).join(", ")}); the start decides.`;
  const more = found.length > 1 ? many : "The line has one valley, so the start does not matter.";
  const rest = `${more} The average says ${metres(average(settings))}. ${steps}.`;
  return [`At ${clock(x)} the water stands at ${metres(y)}.`, rest, found.length > 1 ? "" : "good"];
}

function tellHour([x, y], settings, steps) {
  const found = answers(settings);
  const mean = average(settings);
  const there = average({ ...settings, ask: "x", x: mean });
  const wrong = Math.abs(there - y) > 0.5 ? `, when it stands at ${metres(there)}` : "";
  const lead = `It is ${metres(y)} high at ${clock(x)}.`;
  if (found.length === 1) {
    const rest = `The line has one valley. The average of all answers is ${clock(mean)}${wrong}. ${steps}.`;
    return [lead, rest, wrong ? "bad" : ""];
  }
  const rings = `One of ${found.length} valleys: ${found.map(clock).join(", ")}`;
  return [lead, `${rings}; drag the start to get another. Their average is ${clock(mean)}${wrong}.`, "good"];
}

function tellNote([x, y], settings, steps) {
  const [dx, dy] = [x - settings.x, y - settings.y];
  const moved = Math.sqrt(settings.beta * (settings.mix * dx * dx + (1 - settings.mix) * dy * dy));
  if (moved < 1) {
    const rest = `It moves to ${clock(x)}, ${metres(y)}: less than the width of one note. ${steps}.`;
    return ["This note looks right.", rest, "good"];
  }
  const from = `from ${clock(settings.x)}, ${metres(settings.y)}`;
  const rest = `Both numbers were free, and both gave way: ${from}. ${steps}.`;
  return [`Did you mean ${clock(x)}, ${metres(y)}?`, rest, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  return {
    ask: given.ask in ASK ? given.ask : otherwise.ask,
    beta: numberFrom(given.beta, 0.5, 200, otherwise.beta),
    mix: numberFrom(given.mix, 0.02, 0.98, otherwise.mix),
    x: numberFrom(given.x, 0, HOURS, otherwise.x),
    y: numberFrom(given.y, ...METRES, otherwise.y),
  };
}

const STYLE_QUESTIONS = `
.amx-questions .amx-row { align-items: end; }
.amx-questions .plot {
  position: relative; height: 300px; margin-left: 26px; border: 1px solid var(--amx-line);
  border-radius: 8px; overflow: hidden;
}
.amx-questions .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-questions .plot svg { touch-action: pan-y; cursor: crosshair; }
.amx-questions .held { stroke: var(--amx-ink); stroke-width: 2; stroke-dasharray: 6 4; opacity: .7; }
.amx-questions .note { fill: var(--amx-memory); }
.amx-questions .way {
  fill: none; stroke: var(--amx-trajectory); stroke-width: 3; stroke-linejoin: round; stroke-linecap: round;
}
.amx-questions .grip { cursor: grab; touch-action: none; }
.amx-questions .grip .dot { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-questions .end { fill: var(--amx-trajectory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-questions .valley { fill: none; stroke: var(--amx-energy); stroke-width: 2.5; }
.amx-questions .mean { stroke: var(--amx-wrong); stroke-width: 2.5; fill: none; }
.amx-questions .slice { fill: none; stroke: var(--amx-energy); stroke-width: 2.5; }
@media (max-width: 480px) { .amx-questions .plot { height: 230px; } }
`;

const MARGIN = 26; // left of the picture, for its numbers

class Questions extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([0, HOURS], METRES);
    this.land = node("canvas", { role: "img", "aria-label": "Energy of hour and height" });
    this.dots = svg("g");
    this.marks = svg("g");
    this.way = svg("path", { class: "way" });
    this.end = svg("circle", { class: "end", r: 6 });
    this.grip = this.handle();
    this.over = svg("svg", {}, this.dots, this.marks, this.way, this.end, this.grip.root);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.ticks = svg("svg", { "aria-hidden": "true" });
    const label = "Energy along the free line, or over the steps";
    this.slice = svg("svg", { role: "img", "aria-label": label });
    this.ui.stage.append(this.plot, this.ticks, this.slice);
    this.over.addEventListener("click", (event) => {
      if (event.target.closest(".grip")) return;
      this.put(...this.plane.at(event, this.over));
      this.play();
    });
  }

  handle() {
    const { now } = this;
    return point({
      kind: "grip",
      label: "Start: arrow keys move it, Enter lets it go",
      radius: 8,
      range: [0, HOURS],
      carry: (event) => this.put(...this.plane.at(event, this.over)),
      nudge: (dx, dy) => {
        this.put(now.x + 0.5 * dx, now.y + 0.1 * dy);
        this.life.soon();
      },
      go: () => this.play(),
    });
  }

  /** The start goes to (x, y); the way from there waits. */
  put(x, y) {
    const { now, life } = this;
    now.x = Number(clamp(x, 0, HOURS).toFixed(2));
    now.y = Number(clamp(y, ...METRES).toFixed(2));
    life.touched();
    life.halt();
    this.compute();
    this.seek(0);
    this.drawMarks();
    this.frame();
  }

  drawLand() {
    if (!this.plane.resize(this.plot)) return;
    const { w, h } = this.plane;
    const c = colours(this.ui.root);
    const [nx, ny] = [Math.round(w / 4), Math.round(h / 4)];
    const grid = field(energies(this.plane.cells(nx, ny), this.now), nx, ny);
    grid.high = grid.low + 2.2; // everything above looks alike: what matters is near the notes
    const depth = (share) => 0.6 * (1 - Math.sqrt(share)) ** 1.1;
    heat(pen(this.land, w, h), grid, { w, h, colour: c.energy, paper: c.paper, depth });
    this.over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    if (this.framed !== `${w} ${h}`) this.drawFrame();
    this.framed = `${w} ${h}`;
  }

  /** What depends on the size alone: the notes, and the numbers around the picture. */
  drawFrame() {
    const { w, h } = this.plane;
    const note = ([x, y]) => svg("circle", { class: "note", cx: x, cy: y, r: 2.6 });
    this.dots.replaceChildren(...NOTES.map((pair) => note(this.plane.to(pair))));
    const text = (x, y, words, kind) => svg("text", { x, y, class: kind }, words);
    const place = (hour) => MARGIN + this.plane.sx(hour) - (hour === HOURS ? 8 : 0);
    size(this.ticks, w + MARGIN, 32);
    this.ticks.replaceChildren(
      ...[0, 6, 12, 18, 24].map((hour) => text(place(hour), 15, `${hour}`, "mid")),
      text(MARGIN + w / 2, 30, "hour of the day", "mid strong"),
      ...[1, 2, 3, 4].map((m) => text(8, this.plane.sy(m) - h + 2, `${m}`, "mid")),
      text(0, -h + 12, "m", "strong"),
    );
  }

  drawMarks() {
    const { now } = this;
    const { plane } = this;
    const { w, h } = plane;
    const [x, y] = plane.to([now.x, now.y]);
    const ends = { x: { x1: x, x2: x, y1: 0, y2: h }, y: { x1: 0, x2: w, y1: y, y2: y } }[now.ask];
    this.found = answers(now);
    const rings = this.found.map((a) => plane.to(now.ask === "x" ? [now.x, a] : [a, now.y]));
    this.marks.replaceChildren(
      ...(ends ? [svg("line", { class: "held", ...ends })] : []),
      ...rings.map(([cx, cy]) => svg("circle", { class: "valley", cx, cy, r: 11 })),
    );
    if (now.ask === "y") {
      const d = `M${plane.sx(average(now)) - 6},${y - 6}l12,12m0,-12l-12,12`;
      this.marks.append(svg("path", { class: "mean", d }));
    }
    this.grip.show(plane, [now.x, now.y], `${clock(now.x)}, ${metres(now.y)}`);
  }

  /** The part of the way that is shown, and the panel below. */
  frame() {
    const { path, plane } = this;
    const t = this.share * (path.length - 1);
    const k = Math.floor(t);
    const next = path[Math.min(k + 1, path.length - 1)];
    this.here = path[k].map((v, d) => v + (t - k) * (next[d] - v));
    this.way.setAttribute("d", line([...path.slice(0, k + 1), this.here].map((p) => plane.to(p))));
    const [cx, cy] = plane.to(this.here);
    set(this.end, { cx, cy });
    if (this.now.ask === "none") this.drawSteps(t);
    else this.drawLine();
  }

  /** The energy along the line that is free. */
  drawLine() {
    const { now } = this;
    const along = now.ask === "x" ? 1 : 0;
    const [low, high] = along ? METRES : [0, HOURS];
    const at = (u) => energy(along ? [now.x, u] : [u, now.y], now);
    const points = Array.from({ length: 161 }, (_, i) => low + ((high - low) * i) / 160);
    const title = along
      ? `energy at ${clock(now.x)}, over the height`
      : `energy at ${metres(now.y)}, over the hour`;
    const u = this.here[along];
    this.drawPanel(title, [low, high], { points: points.map((p) => [p, at(p)]), dot: [u, at(u)], tall: 2.5 });
  }

  /** The energy step by step. */
  drawSteps(t) {
    const { now } = this;
    const points = this.path.map((p, i) => [i, energy(p, now)]);
    const ends = [0, Math.max(1, this.path.length - 1)];
    const dot = [t, energy(this.here, now)];
    this.drawPanel("energy, step by step", ends, { points, dot, tall: Infinity });
  }

  drawPanel(title, [low, high], { points, dot, tall }) {
    const [left, right, top, bottom] = [MARGIN, this.plane.w + MARGIN, 22, 92];
    const values = points.map(([, e]) => e);
    const least = Math.min(...values);
    const range = Math.min(Math.max(...values) - least, tall) || 1;
    const place = ([u, e]) => [
      left + ((u - low) / (high - low)) * (right - left),
      bottom - 4 - clamp((e - least) / range, 0, 1) * (bottom - top - 8),
    ];
    const [cx, cy] = place(dot);
    size(this.slice, right, 98);
    this.slice.replaceChildren(
      svg("text", { x: left, y: 14, class: "strong" }, title),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      svg("path", { class: "slice", d: line(points.map(place)) }),
      svg("circle", { class: "end", r: 6, cx, cy }),
    );
  }

  draw() {
    this.drawLand();
    this.drawMarks();
    this.frame();
  }

  compute() {
    this.path = descend(this.now);
  }

  /** Fast at first, then slower. */
  seek(t) {
    this.share = 1 - (1 - t) ** 2;
  }

  told() {
    return tell(this.path, this.now);
  }

  pace() {
    return Math.min(2600, 500 + 90 * this.path.length);
  }

  controls() {
    const { ui } = this;
    const sharp = { min: 0.5, max: 200, log: true, format: (x) => nice(x, x < 10 ? 1 : 0) };
    const mix = { min: 0.02, max: 0.98, step: 0.02, format: (x) => nice(x) };
    const still = [
      ["x", "the hour"],
      ["y", "the height"],
      ["none", "nothing"],
    ];
    ui.controls.append(
      this.slide("beta", { label: "β, how sharp the notes are", then: "soon", ...sharp }),
      this.slide("mix", { label: "λ, the say of the hour", then: "soon", ...mix }),
    );
    ui.row.append(this.pick("ask", "Hold still", still, "play"), this.button("Run again"));
    const from = (settings) => () => ({ ...this.now, beta: 10, mix: 0.3, ...settings });
    this.visits("Drag the orange start, or click anywhere. Or", [
      ["ask for 3 m in the morning", from({ ask: "y", x: 7, y: 3 })],
      ["in the evening", from({ ask: "y", x: 19, y: 3 })],
      ["mend a slip of the pen", from({ ask: "none", x: 12, y: 3 })],
      ["make it too sharp", from({ ask: "none", x: 12, y: 1.4, beta: 150 })],
    ]);
  }

  question() {
    const why =
      "The mean of four right answers is a wrong one. The descent went to one of the four rings instead; " +
      "where you start decides which.";
    return {
      question:
        "When is the water 3 m high? It rises and falls twice a day. " +
        "What will a method say that averages over all notes near 3 m?",
      answers: [
        ["right", "One of the right hours"],
        ["low", "Some hour at low water"],
      ],
      reply: (key) =>
        `${key === "low" ? "Yes: the vermilion cross." : "No: look for the vermilion cross."} ${why}`,
      asked: { ...START, ask: "y", x: 10.5, y: 3 },
    };
  }

  state() {
    return { x: this.here[0], y: this.here[1], valleys: this.found, steps: this.path.length - 1 };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Questions, element, options, {
    name: "questions",
    title: "One energy, three questions",
    label:
      "Explorable: a notebook of hours and water heights as an energy in the plane; " +
      "hold the hour, the height or nothing, and go downhill",
    ...{ style: STYLE_QUESTIONS, start: START, settingsFrom },
  });
}

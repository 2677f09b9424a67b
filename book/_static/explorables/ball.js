import {
  arrows,
  clamp,
  draggable,
  join,
  line,
  nice,
  numberFrom,
  numbersFrom,
  set,
  size,
  svg,
} from "./common.js";
import { Explorable, explorable } from "./life.js";

// A ball in a landscape. It must teach: remembering is going downhill; where you start decides
// which memory you get, and beta decides how many valleys there are to fall into.
//
//   E(x) = -(1/beta) log sum_mu exp(-beta/2 (x - xi_mu)^2),     x <- x - eta dE/dx

const EDGE = 2.2; // the picture shows -EDGE..EDGE
const REACH = 1.8; // memories stay within -REACH..REACH
const LETTERS = "ABCD";
const START = { beta: 4, eta: 0.15, x: -0.35, m: [-1, 1] };

/** The energy at x, steady for any beta: the largest exponent is taken out of the sum. */
export function energy(x, memories, beta) {
  const exponents = memories.map((m) => -0.5 * beta * (x - m) ** 2);
  const top = Math.max(...exponents);
  return -(top + Math.log(exponents.reduce((sum, e) => sum + Math.exp(e - top), 0))) / beta;
}

/** How much each memory pulls at x: softmax of -beta/2 (x - xi)^2. */
export function weights(x, memories, beta) {
  const exponents = memories.map((m) => -0.5 * beta * (x - m) ** 2);
  const top = Math.max(...exponents);
  const raw = exponents.map((e) => Math.exp(e - top));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** dE/dx = x - (the mean of the memories under their weights). */
export function gradient(x, memories, beta) {
  let least = Infinity; // squared distance of the nearest memory
  for (let i = 0; i < memories.length; i++) least = Math.min(least, (x - memories[i]) ** 2);
  let [sum, mean] = [0, 0];
  for (let i = 0; i < memories.length; i++) {
    const weight = Math.exp(-0.5 * beta * ((x - memories[i]) ** 2 - least));
    sum += weight;
    mean += weight * memories[i];
  }
  return x - mean / sum;
}

/** One step of gradient descent. */
export function step(x, memories, beta, eta) {
  return x - eta * gradient(x, memories, beta);
}

/** All valleys and ridges. They lie between the outermost memories, where the slope changes sign. */
export function landmarks(memories, beta) {
  const low = Math.min(...memories) - 0.013;
  const high = Math.max(...memories) + 0.011;
  const parts = 800;
  const at = (i) => low + ((high - low) * i) / parts;
  const valleys = [];
  const ridges = [];
  let before = Math.sign(gradient(low, memories, beta));
  for (let i = 1; i <= parts; i++) {
    const now = Math.sign(gradient(at(i), memories, beta));
    if (now === 0 || now === before) continue;
    (now > 0 ? valleys : ridges).push(signChange(at(i - 1), at(i), memories, beta));
    before = now;
  }
  return { valleys, ridges };
}

function signChange(low, high, memories, beta) {
  const rising = gradient(high, memories, beta) > 0;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (gradient(middle, memories, beta) > 0 === rising) high = middle;
    else low = middle;
  }
  return (low + high) / 2;
}

/** Two valleys at distance 2a become one at beta = 1/a^2: there E'' = 1 - beta a^2 = 0 halfway. */
export function mergeBeta(first, second) {
  return 4 / (first - second) ** 2;
}

/** Every beta in a range at which the number of valleys changes, found by halving. */
export function mergeBetas(memories, low = 0.3, high = 30) {
  const count = (b) => landmarks(memories, b).valleys.length;
  const found = [];
  const parts = 40;
  let from = low;
  let before = count(low);
  for (let i = 1; i <= parts; i++) {
    const to = low * (high / low) ** (i / parts);
    const now = count(to);
    if (now !== before) {
      let [a, b] = [from, to];
      for (let k = 0; k < 22; k++) {
        const middle = Math.sqrt(a * b);
        if (count(middle) === before) a = middle;
        else b = middle;
      }
      found.push(Math.sqrt(a * b));
    }
    [from, before] = [to, now];
  }
  return found;
}

/** Which valley each memory lies in, by index: two memories with one number share a valley. */
function valleyOf(x, marks) {
  return marks.ridges.filter((ridge) => ridge < x).length;
}

/** Let go at x: the whole path, its energies, and what kind of ride it was. */
export function roll(x, memories, beta, eta, { steps = 400, tolerance = 1e-3, bound = 6 } = {}) {
  const path = [x];
  const energies = [energy(x, memories, beta)];
  let overshoots = 0;
  let rose = -1; // the first step that went up; some more are shown after it
  let slope = gradient(x, memories, beta);
  const goesOn = (t) => Math.abs(slope) > tolerance && Math.abs(x) < bound && (rose < 0 || t < rose + 24);
  for (let t = 1; t <= steps && goesOn(t); t++) {
    x -= eta * slope;
    path.push(x);
    energies.push(energy(x, memories, beta));
    const next = gradient(x, memories, beta);
    if (next * slope < 0) overshoots++;
    if (rose < 0 && energies[t] > energies[t - 1] + 1e-12) rose = t;
    slope = next;
  }
  const settled = Math.abs(slope) <= tolerance;
  return { path, energies, overshoots, rose, settled, left: Math.abs(x) > EDGE };
}

const at = (x) => `x\u00a0=\u00a0${nice(x)}`;

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, memories, beta, eta) {
  const marks = landmarks(memories, beta);
  const [start, end] = [ride.path[0], ride.path.at(-1)];
  const count = ride.path.length - 1;
  if (count === 0) return tellStill(start, marks);
  if (ride.rose > 0) return tellClimb(ride);
  const steps = `${count} step${count > 1 ? "s" : ""}`;
  if (!ride.settled) {
    const rest = `After ${steps} it is at ${at(end)} and creeping: the ground is almost flat here.`;
    return ["Still on its way.", rest, ""];
  }
  const valley = valleyOf(end, marks);
  const here = [...LETTERS].filter((_, i) => i < memories.length && valleyOf(memories[i], marks) === valley);
  const jumped = valleyOf(start, marks) !== valley ? " It began in another valley and jumped the ridge." : "";
  const swings = `It overshot the bottom ${ride.overshoots} times, and still every step lost energy.`;
  const odd = (eta > 1 && ride.overshoots > 1 ? ` ${swings}` : "") + jumped;
  if (here.length > 1) {
    const when = `The two valleys became one at β\u00a0=\u00a01/a²\u00a0=\u00a0`;
    const merged = memories.length === 2 ? ` ${when}${nice(mergeBeta(...memories))}.` : "";
    const rest = `${join(here)} share one valley now.${merged}${odd}`;
    return [`It settled at ${at(end)}, and nobody stored that.`, rest, "bad"];
  }
  const off = Math.abs(end - memories[LETTERS.indexOf(here[0])]);
  const pulled = off > 0.02 ? ` The others pull the bottom ${nice(off)} away from ${here[0]} itself.` : "";
  const rest = `From ${at(start)} it settled at ${at(end)} in ${steps}.${pulled}${odd}`;
  return [`It remembered ${here[0]}.`, rest, jumped ? "bad" : "good"];
}

function tellStill(start, marks) {
  if (marks.ridges.some((r) => Math.abs(r - start) < 1e-3)) {
    const rest = "The top of a ridge has no slope either. Nudge the ball to one side.";
    return ["It does not move.", rest, "bad"];
  }
  return ["It stays where it is.", `${at(start)} is the bottom of a valley already.`, "good"];
}

function tellClimb({ rose, energies, path, left }) {
  const swings = `After ${path.length - 1} steps it still swings to and fro.`;
  const rest =
    "Each step is so long that it lands higher on the other side: " +
    `step ${rose} took the energy from ${nice(energies[rose - 1])} up to ${nice(energies[rose])}. ` +
    `${left ? "The ball has left the picture." : swings} Up to η\u00a0=\u00a02 the energy cannot rise.`;
  return ["This is no descent.", rest, "bad"];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = numbersFrom(given.m);
  const inside = (m) => Number.isFinite(m) && Math.abs(m) <= REACH;
  const good = list && list.length >= 2 && list.length <= 4 && list.every(inside);
  return {
    beta: numberFrom(given.beta, 0.3, 30, otherwise.beta),
    eta: numberFrom(given.eta, 0.02, 2.5, otherwise.eta),
    x: numberFrom(given.x, -EDGE, EDGE, otherwise.x),
    m: good ? list : [...otherwise.m],
  };
}

const STYLE_BALL = `
.amx-ball .plot { touch-action: pan-y; cursor: crosshair; }
.amx-ball .basin { fill: var(--amx-memory); }
.amx-ball .curve { fill: none; stroke: var(--amx-ink); stroke-width: 2; stroke-linejoin: round; }
.amx-ball .drop { stroke: var(--amx-memory); stroke-width: 1; stroke-dasharray: 2 3; }
.amx-ball .memory, .amx-ball .marble { cursor: grab; touch-action: none; }
.amx-ball .memory circle.dot { fill: var(--amx-memory); }
.amx-ball .memory text {
  fill: var(--amx-paper); font-weight: 700; text-anchor: middle; pointer-events: none;
}
.amx-ball .marble .dot { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-ball .marble .gloss { fill: #fff; opacity: .65; }
.amx-ball .start { fill: none; stroke: var(--amx-query); stroke-width: 2; stroke-dasharray: 3 2.5; }
.amx-ball .trail circle { fill: var(--amx-trajectory); }
.amx-ball .trace { fill: none; stroke: var(--amx-energy); stroke-width: 2; stroke-linejoin: round; }
.amx-ball .trace-dots circle { fill: var(--amx-energy); }
.amx-ball .level { stroke: var(--amx-energy); stroke-width: 1; stroke-dasharray: 3 3; }
.amx-ball text.to { fill: var(--amx-memory); font-weight: 600; text-anchor: middle; }
`;
const BOX = { left: 30, top: 22, bottom: 62 }; // room around the landscape
const BALL = 10.5; // its radius with its outline

class Ball extends Explorable {
  constructor(life) {
    super(life);
    this.moment = 0; // how many steps of the ride are shown, with a fraction
    this.pegs = [];
    const clipId = `amx-clip-${Math.random().toString(36).slice(2, 8)}`;
    const group = (name) => svg("g", { class: name });
    this.clip = svg("rect");
    [this.basins, this.drops, this.trail] = ["basins", "drops", "trail"].map(group);
    [this.axes, this.names, this.dots] = ["frame", "names", "trace-dots"].map(group);
    this.curve = svg("path", { class: "curve" });
    this.trace = svg("path", { class: "trace" });
    this.level = svg("line", { class: "level" });
    this.start = svg("circle", { class: "start", r: 9 });
    this.marble = this.makeMarble();
    const clipped = svg("g", { "clip-path": `url(#${clipId})` }, this.basins, this.drops, this.curve);
    clipped.append(this.trail, this.start);
    const clips = svg("defs", {}, svg("clipPath", { id: clipId }, this.clip));
    this.plot = svg("svg", { class: "plot" }, clips, this.axes, clipped, this.level, this.trace);
    this.plot.append(this.dots, this.names, this.marble);
    this.ui.stage.append(this.plot);
    draggable(
      this.plot,
      (event) => this.carry(this.pointed(event)),
      () => this.play(),
    );
  }

  makeMarble() {
    const label = "Ball: arrow keys move it, Enter lets it go";
    const names = { class: "marble", role: "slider", tabindex: "0", "aria-label": label };
    const marble = svg("g", { ...names, "aria-valuemin": -EDGE, "aria-valuemax": EDGE });
    marble.append(
      svg("circle", { r: 22, fill: "transparent" }),
      svg("circle", { class: "amx-ring", r: 15 }),
      svg("circle", { class: "dot", r: 9.5 }),
      svg("circle", { class: "gloss", cx: -3, cy: -3.4, r: 2.3 }),
    );
    const go = () => this.play();
    draggable(marble, (event) => this.carry(this.pointed(event)), go);
    const nudge = (dx) => {
      this.carry(this.now.x + 0.05 * dx);
      this.life.soon();
    };
    arrows(marble, nudge, go);
    return marble;
  }

  // --- from numbers to places on the screen ------------------------------------------------------

  sx(x) {
    return BOX.left + ((x + EDGE) / (2 * EDGE)) * (this.split - BOX.left - 8);
  }

  sy(e) {
    const { low, high } = this.scene;
    return this.h - BOX.bottom - ((e - low) / (high - low)) * (this.h - BOX.bottom - BOX.top);
  }

  /** Where step t stands in the trace on the right. */
  st(t) {
    return this.split + 20 + (t / Math.max(8, this.ride.path.length - 1)) * (this.w - this.split - 28);
  }

  pointed(event) {
    const px = event.clientX - this.plot.getBoundingClientRect().left;
    return -EDGE + ((px - BOX.left) / (this.split - BOX.left - 8)) * 2 * EDGE;
  }

  /** The landscape of the present settings, and the ride through it. */
  compute() {
    const { m, beta, x, eta } = this.now;
    const marks = landmarks(m, beta);
    const height = (place) => energy(place, m, beta);
    const bottom = Math.min(...marks.valleys.map(height));
    const top = Math.max(height(-EDGE), height(EDGE), ...marks.ridges.map(height));
    this.scene = { marks, low: bottom - 0.06 * (top - bottom), high: top };
    this.ride = roll(x, m, beta, eta);
  }

  /** The curve between two places. */
  ground(from, to, parts) {
    const { m, beta } = this.now;
    return Array.from({ length: parts + 1 }, (_, i) => {
      const x = from + (i / parts) * (to - from);
      return [this.sx(x), this.sy(energy(x, m, beta))];
    });
  }

  // --- the picture: made once, moved by attributes -----------------------------------------------

  drawLand() {
    const { m, beta } = this.now;
    this.w = Math.max(260, this.ui.stage.clientWidth);
    this.h = this.w < 480 ? 270 : 310;
    this.split = BOX.left + (this.w - BOX.left) * 0.7;
    size(this.plot, this.w, this.h);
    const floor = this.h - BOX.bottom;
    set(this.clip, { x: BOX.left, y: 0, width: this.split - BOX.left - 8, height: floor });
    this.curve.setAttribute("d", line(this.ground(-EDGE, EDGE, 240)));
    this.drawBasins(floor);
    this.drawFrame(floor);
    const drop = (x) => {
      const ends = { x1: this.sx(x), x2: this.sx(x), y1: this.sy(energy(x, m, beta)), y2: floor };
      return svg("line", { class: "drop", ...ends });
    };
    this.drops.replaceChildren(...m.map(drop));
    this.drawMemories(floor);
  }

  drawFrame(floor) {
    const right = this.split + 20;
    const narrow = this.w < 480;
    const axis = (x1, x2) => svg("line", { class: "axis", x1, x2, y1: floor, y2: floor });
    const tick = (e) => {
      const whole = Math.abs(e * 10) % 10 < 0.01;
      return svg("text", { x: BOX.left - 6, y: this.sy(e) + 4, class: "end" }, nice(e, whole ? 0 : 1));
    };
    const over = narrow ? { x: this.w, class: "strong end" } : { x: right, class: "strong" };
    this.axes.replaceChildren(
      svg("text", { x: BOX.left, y: 12, class: "strong" }, "energy E(x)"),
      svg("text", { ...over, y: 12 }, narrow ? "over steps" : "the same, step by step"),
      axis(BOX.left, this.split - 8),
      axis(right, this.w),
      ...this.ticks().map(tick),
    );
  }

  ticks() {
    const { low, high } = this.scene;
    const unit = [0.1, 0.2, 0.5, 1, 2].find((u) => (high - low) / u <= 5) ?? 4;
    const first = Math.ceil(low / unit);
    return Array.from({ length: Math.floor(high / unit) - first + 1 }, (_, i) => (first + i) * unit);
  }

  /** The valleys, each with the memories that it leads to. */
  drawBasins(floor) {
    const { marks } = this.scene;
    const { m } = this.now;
    const edges = [-EDGE, ...marks.ridges, EDGE];
    const parts = edges.slice(0, -1).map((from, i) => {
      const [left, right] = [from, edges[i + 1]].map((x) => this.sx(x));
      const owners = [...LETTERS].filter((_, k) => k < m.length && valleyOf(m[k], marks) === i);
      const text = right - left < 62 ? owners.join("") : `leads to ${owners.join(" + ")}`;
      const land = [[left, floor], ...this.ground(from, edges[i + 1], 60), [right, floor]];
      return {
        land: svg("path", { class: "basin", opacity: i % 2 ? 0.2 : 0.1, d: `${line(land)}Z` }),
        name: svg("text", { class: "to", x: (left + right) / 2, y: this.h - 12 }, text),
      };
    });
    this.basins.replaceChildren(...parts.map(({ land }) => land));
    this.names.replaceChildren(...parts.map(({ name }) => name));
  }

  drawMemories(floor) {
    const { m } = this.now;
    while (this.pegs.length > m.length) this.pegs.pop().remove();
    while (this.pegs.length < m.length) this.pegs.push(this.peg(this.pegs.length));
    this.pegs.forEach((g, i) => {
      const words = { "aria-valuenow": m[i], "aria-valuetext": `at ${nice(m[i])}` };
      set(g, { transform: `translate(${this.sx(m[i])} ${floor + 16})`, ...words });
    });
  }

  peg(i) {
    const { now } = this;
    const label = `Memory ${LETTERS[i]}: arrow keys move it`;
    const names = { class: "memory", role: "slider", tabindex: "0", "aria-label": label };
    const g = svg("g", { ...names, "aria-valuemin": -REACH, "aria-valuemax": REACH });
    g.append(
      svg("circle", { r: 20, fill: "transparent" }),
      svg("circle", { class: "amx-ring", r: 15 }),
      svg("circle", { class: "dot", r: 11 }),
      svg("text", { y: 4 }, LETTERS[i]),
    );
    const put = (x) => {
      now.m[i] = Number(clamp(x, -REACH, REACH).toFixed(2));
      this.turn();
    };
    draggable(g, (event) => put(this.pointed(event)));
    arrows(
      g,
      (dx) => put(now.m[i] + 0.05 * dx),
      () => this.play(),
    );
    this.plot.insertBefore(g, this.marble);
    return g;
  }

  /** Where the middle of a ball lies that touches the curve at x, at height e. */
  resting(x, e) {
    const { m, beta } = this.now;
    const fall = (gradient(x, m, beta) * (this.sy(0) - this.sy(1))) / (this.sx(1) - this.sx(0));
    const length = Math.hypot(1, fall);
    return [this.sx(x) - (BALL * fall) / length, this.sy(e) - BALL / length];
  }

  /** Where the ball is now: [x, energy]; one that left the picture is back where it can be held. */
  place() {
    const { path, energies, left } = this.ride;
    const last = path.length - 1;
    const t = clamp(this.moment, 0, last);
    if (last === 0 || (t >= last && left)) return [path[0], energies[0]];
    const k = Math.min(Math.floor(t), last - 1);
    return [path, energies].map((list) => list[k] + (t - k) * (list[k + 1] - list[k]));
  }

  /** Everything that moves while the ball rolls. */
  frame() {
    const { path, energies, left } = this.ride;
    const last = path.length - 1;
    const t = clamp(this.moment, 0, last);
    const [x, e] = this.place();
    const away = Math.abs(x) > EDGE + 0.02;
    const spot = this.resting(clamp(x, -EDGE - 0.3, EDGE + 0.3), e);
    set(this.marble, { transform: `translate(${spot.join(" ")})`, opacity: away ? 0 : 1 });
    const words = `x\u00a0=\u00a0${nice(x)}, energy ${nice(e)}`;
    set(this.marble, { "aria-valuenow": x.toFixed(2), "aria-valuetext": words });
    const [cx, cy] = this.resting(path[0], energies[0]);
    set(this.start, { cx, cy, opacity: t > 0.5 && !(t >= last && left) ? 1 : 0 });
    this.drawTrace(t, e);
    const ends = { x1: this.sx(clamp(x, -EDGE, EDGE)), x2: this.st(t), y1: this.sy(e), y2: this.sy(e) };
    set(this.level, { ...ends, opacity: this.sy(e) > 8 ? 1 : 0 });
  }

  /** The steps so far, in the landscape and beside it. */
  drawTrace(t, e) {
    const { path, energies } = this.ride;
    const shown = Math.floor(t + 1e-9);
    const r = shown > 60 ? 2 : 3;
    const upTo = path.map((_, i) => i).filter((i) => i <= shown && this.sy(energies[i]) > 0);
    const dot = (cx, i) => svg("circle", { cx, cy: this.sy(energies[i]), r });
    this.trail.replaceChildren(...upTo.map((i) => dot(this.sx(path[i]), i)));
    this.dots.replaceChildren(...upTo.map((i) => dot(this.st(i), i)));
    const points = upTo.map((i) => [this.st(i), this.sy(energies[i])]);
    if (t > shown && this.sy(e) > 0) points.push([this.st(t), this.sy(e)]);
    this.trace.setAttribute("d", line(points));
  }

  draw() {
    this.drawLand();
    this.frame();
  }

  // --- doing it ----------------------------------------------------------------------------------

  seek(t) {
    this.moment = (this.ride.path.length - 1) * t;
  }

  told() {
    const { m, beta, eta } = this.now;
    return tell(this.ride, m, beta, eta);
  }

  pace() {
    return Math.min(3600, (this.now.eta > 1 ? 260 : 110) * (this.ride.path.length - 1));
  }

  carry(x) {
    this.turn({ x: Number(clamp(x, -EDGE + 0.02, EDGE - 0.02).toFixed(2)) }, "wait");
  }

  showHands() {
    super.showHands();
    const { m } = this.now;
    this.more.disabled = m.length >= 4;
    this.fewer.disabled = m.length <= 2;
    if (this.marked !== m.join()) this.hands.beta.mark(mergeBetas(m));
    this.marked = m.join();
  }

  controls() {
    const { ui, now } = this;
    const sharp = { min: 0.3, max: 30, log: true, format: (v) => nice(v, v < 10 ? 2 : 1) };
    const stride = { min: 0.05, max: 2.5, step: 0.05, format: (v) => nice(v) };
    const beta = this.slide("beta", { label: "β, how sharp", ...sharp });
    const eta = this.slide("eta", { label: "η, step size", ...stride });
    ui.controls.append(beta, eta);
    this.more = this.button("+ memory", () => ({ m: [...now.m, widest(now.m)] }));
    this.fewer = this.button("− memory", () => ({ m: now.m.slice(0, -1) }));
    ui.row.append(this.button("Let go again"), this.more, this.fewer);
    this.visits("Drag the ball, drag the memories. At a red tick on β valleys merge. Or try", [
      ["a step that is too long", { eta: 2.2, x: 1.3 }],
      ["the very top of a ridge", { x: 0 }],
      ["four memories", { m: [-1.6, -0.6, 0.3, 1.5], beta: 12, x: -0.1 }],
    ]);
  }

  question() {
    const why =
      "At β\u00a0=\u00a01 the two valleys became one, and its bottom is the average of A and B: " +
      "a place that nobody stored.";
    return {
      asked: { ...START, x: -0.7 },
      question:
        "A and B are stored at −1 and 1, and β goes down to 0.5. " +
        "Where will a ball from −0.70 come to rest?",
      answers: [
        ["near", "At A, it is nearer"],
        ["between", "Between the two"],
      ],
      reply: (key) => `${key === "between" ? "Yes" : "No"}, between them. ${why}`,
      answer: (done) => this.flatten(done),
    };
  }

  /** The answer: beta falls, then the ball is let go. */
  flatten(done) {
    const fall = (t) => (this.now.beta = Number((START.beta * (0.5 / START.beta) ** t).toPrecision(3)));
    this.vary(fall, () => this.play(done), { at: 0, milliseconds: 2400, end() {} });
  }

  state() {
    const [x, e] = this.place();
    return { x, energy: e, step: Math.floor(this.moment), valleys: this.scene.marks.valleys };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Ball, element, options, {
    name: "ball",
    title: "A ball in a landscape",
    label: "Explorable: a ball rolls downhill in the energy landscape of a one-dimensional memory",
    ...{ style: STYLE_BALL, start: START, settingsFrom },
  });
}

/** Where one more memory has most room. */
function widest(memories) {
  const spots = [-REACH, ...memories, REACH].sort((a, b) => a - b);
  let best = [0, 0];
  for (let i = 0; i + 1 < spots.length; i++) {
    const outer = i === 0 || i + 2 === spots.length;
    const room = (spots[i + 1] - spots[i]) * (outer ? 1.4 : 1);
    const middle = i === 0 ? spots[0] : i + 2 === spots.length ? spots[i + 1] : (spots[i] + spots[i + 1]) / 2;
    if (room > best[0]) best = [room, middle];
  }
  return Number(best[1].toFixed(2));
}

import { TOWER_DIGITS, TOWER_MEASURED, TOWER_WEIGHTS } from "./tower_weights.js";
import { legend, line, nice, numberFrom, size, svg } from "./common.js";
import { Explorable, explorable } from "./life.js";

// A tower of five floors, live: image 8 x 8, features 12 x 6 x 6, pooled 12 x 3 x 3, hidden 48,
// name 10. It must teach: one energy answers three kinds of question, depending on what is held;
// floors that take turns cannot raise it, floors that jump all at once can.
//
//   E = sum of the neurons' prices - <f, W * v> - s <p, pool(f)> - h.U p - y.V h - biases

const SIDE = 8;
const MAPS = 12;
const WIDE = 6; // side of a feature map
const CELL = 3; // side of a pooled map
const HIDDEN = 48;
const NAMES = 10;
const INK = 0.95;
const SURE = 8;
const SWEEPS = 12;
const FLOORS = ["image", "features", "pooled", "hidden", "label"];
const TURNS = [
  ["features", "hidden"],
  ["image", "pooled", "label"],
];
const START = { digit: 3, seen: "top", told: -1, way: "turns", sweep: SWEEPS };
const SEEN = [
  ["whole", "all of it"],
  ["top", "upper half"],
  ["left", "left half"],
  ["none", "nothing"],
];
const WORDS = { whole: "the whole picture", top: "the upper half", left: "the left half", none: "nothing" };

/** Every parameter as numbers: a byte times a scale. */
export function parameters() {
  const unpack = ({ scale, bits }) => Array.from(atob(bits), (c) => scale * ((c.charCodeAt(0) << 24) >> 24));
  return Object.fromEntries(Object.entries(TOWER_WEIGHTS).map(([name, packed]) => [name, unpack(packed)]));
}

const P = parameters();
const BETA = {
  image: 1,
  features: P.betaFeatures[0],
  pooled: P.betaPooled[0],
  hidden: P.betaHidden[0],
  label: P.betaLabel[0],
};

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const logCosh = (x) => Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2;

function softmax(x, beta) {
  const top = Math.max(...x);
  const raw = x.map((v) => Math.exp(beta * (v - top)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** What each floor says. */
export function activations(states) {
  return Object.fromEntries(
    FLOORS.map((floor) => [
      floor,
      floor === "label"
        ? softmax(states.label, BETA.label)
        : states[floor].map((x) => Math.tanh(BETA[floor] * x)),
    ]),
  );
}

const FEATURES = MAPS * WIDE * WIDE;
const POOLED = MAPS * CELL * CELL;
const place = (i) => [Math.floor(i / (WIDE * WIDE)), Math.floor(i / WIDE) % WIDE, i % WIDE];
const mapOf = Array.from({ length: FEATURES }, (_, i) => place(i)[0]);
const cellOf = mapOf.map((m, i) => (m * CELL + (place(i)[1] >> 1)) * CELL + (place(i)[2] >> 1));
const cornerOf = mapOf.map((_, i) => place(i)[1] * SIDE + place(i)[2]); // of a feature's 3 x 3 pixels
const TAPS = Array.from({ length: 9 }, (_, t) => Math.floor(t / 3) * SIDE + (t % 3));

/** Picture to features: W * v. */
function look(v) {
  const one = (corner, i) => {
    let sum = 0;
    for (let t = 0; t < 9; t++) sum += P.conv[9 * mapOf[i] + t] * v[corner + TAPS[t]];
    return sum;
  };
  return cornerOf.map(one);
}

/** Features back to the picture: the transposed convolution. */
function unlook(f) {
  const out = new Array(SIDE * SIDE).fill(0);
  cornerOf.forEach((corner, i) => {
    for (let t = 0; t < 9; t++) out[corner + TAPS[t]] += P.conv[9 * mapOf[i] + t] * f[i];
  });
  return out;
}

function pool(f) {
  const out = new Array(POOLED).fill(0);
  for (let i = 0; i < FEATURES; i++) out[cellOf[i]] += (P.pooling[0] * f[i]) / 4;
  return out;
}

/** A matrix kept as one list of rows, times x. */
function times(W, rows, x) {
  return Array.from({ length: rows }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < x.length; j++) sum += W[i * x.length + j] * x[j];
    return sum;
  });
}

/** And transposed, times x. */
function timesT(W, columns, x) {
  return Array.from({ length: columns }, (_, j) => {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += W[i * columns + j] * x[i];
    return sum;
  });
}

const plus = (first, ...lists) => first.map((v, i) => lists.reduce((sum, list) => sum + list[i], v));

/** What each floor hears: minus the slope of all synapses. */
export function currents(hat) {
  const spread = cellOf.map((cell) => (P.pooling[0] * hat.pooled[cell]) / 4);
  const bias = mapOf.map((m) => P.featureBias[m]);
  return {
    image: plus(P.imageBias, unlook(hat.features)),
    features: plus(bias, look(hat.image), spread),
    pooled: plus(P.pooledBias, pool(hat.features), timesT(P.up, POOLED, hat.hidden)),
    hidden: plus(P.hiddenBias, times(P.up, HIDDEN, hat.pooled), timesT(P.top, HIDDEN, hat.label)),
    label: plus(P.labelBias, times(P.top, NAMES, hat.hidden)),
  };
}

/** What a floor pays for its states: <x, xhat> minus its Lagrangian. */
function price(floor, x, xhat) {
  const beta = BETA[floor];
  if (floor !== "label") return dot(x, xhat) - x.reduce((s, v) => s + logCosh(beta * v), 0) / beta;
  const top = Math.max(...x);
  return dot(x, xhat) - top - Math.log(x.reduce((s, v) => s + Math.exp(beta * (v - top)), 0)) / beta;
}

/** The energy in five parts (neurons with their biases, four synapses), and their total. */
export function energies(states) {
  const hat = activations(states);
  const prices = FLOORS.reduce((sum, floor) => sum + price(floor, states[floor], hat[floor]), 0);
  const featureBias = hat.features.reduce((sum, x, i) => sum + x * P.featureBias[mapOf[i]], 0);
  const upper = dot(P.pooledBias, hat.pooled) + dot(P.hiddenBias, hat.hidden) + dot(P.labelBias, hat.label);
  const parts = {
    neurons: prices - (dot(P.imageBias, hat.image) + featureBias + upper),
    look: -dot(hat.features, look(hat.image)),
    pool: -dot(hat.pooled, pool(hat.features)),
    up: -dot(hat.hidden, times(P.up, HIDDEN, hat.pooled)),
    top: -dot(hat.label, times(P.top, NAMES, hat.hidden)),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}

/** Which pixels are held. */
export function held(seen) {
  return Array.from(
    { length: SIDE * SIDE },
    (_, i) =>
      ({
        whole: true,
        top: i < (SIDE * SIDE) / 2,
        left: i % SIDE < SIDE / 2,
        none: false,
      })[seen],
  );
}

/** The states a question starts from: what is known is put in, everything else is zero. */
export function ask({ digit, seen, told }) {
  const mask = held(seen);
  return {
    image: TOWER_DIGITS[digit].map((ink, i) => (mask[i] ? Math.atanh(INK * (ink / 8 - 1)) : 0)),
    features: new Array(FEATURES).fill(0),
    pooled: new Array(POOLED).fill(0),
    hidden: new Array(HIDDEN).fill(0),
    label: Array.from({ length: NAMES }, (_, k) => (k === told ? SURE : 0)),
  };
}

/** The floors of one set jump to what they hear; what is held stays. */
export function jump(states, floors, { seen, told }) {
  const heard = currents(activations(states));
  const mask = held(seen);
  const next = { ...states };
  for (const floor of floors) {
    if (floor === "label" && told >= 0) continue;
    next[floor] = heard[floor];
    if (floor === "image") next.image = heard.image.map((x, i) => (mask[i] ? states.image[i] : x));
  }
  return next;
}

/** A whole run: the states, the energies, and the moments in which the energy rose. */
export function run(settings) {
  const sets = settings.way === "turns" ? TURNS : [FLOORS];
  let states = ask(settings);
  const film = [states];
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (const floors of sets) film.push((states = jump(states, floors, settings)));
    if (sets.length === 1) film.push(states); // so that a sweep is two moments in either way
  }
  const trace = film.map(energies);
  const rises = trace.map((e, k) => k).filter((k) => k > 0 && trace[k].total > trace[k - 1].total + 1e-6);
  return { film, trace, rises };
}

/** The picture on the ground floor, 0 to 1. */
export function pixels(states) {
  return states.image.map((x) => Math.min(1, Math.max(0, (1 + Math.tanh(x) / INK) / 2)));
}

/** What a run shows after so many sweeps: the name it leans to, its share, jumps, rises, the fall. */
function seenAt(ride, { sweep, way }) {
  const k = 2 * sweep;
  const said = activations(ride.film[k]).label;
  const name = said.indexOf(Math.max(...said));
  const jumps = way === "turns" ? k : sweep;
  const rises = ride.rises.filter((t) => t <= k).length;
  return { name, share: said[name], jumps, rises, fell: ride.trace[0].total - ride.trace[k].total };
}

/** What the slider of sweeps shows, in words: [lead, rest, kind]. */
export function tell(ride, settings) {
  const { name, share, jumps, rises, fell } = seenAt(ride, settings);
  const { digit, seen, told, sweep } = settings;
  if (sweep === 0) return ["Nothing has moved yet.", `${before(settings)} Let the sweeps go on.`, ""];
  const when = sweep === SWEEPS ? "" : ` so far, after ${sweep} of ${SWEEPS} sweeps`;
  if (rises) {
    const why =
      "Each floor went to the best place for where its neighbours had been. " +
      "By the time it arrived, they had left.";
    return [`The energy rose in ${rises} of ${jumps} jumps${when}.`, why, "bad"];
  }
  const fall = `The energy fell by ${nice(fell, 0)} and rose in none of ${jumps} jumps${when}.`;
  if (told >= 0) return [drawn(settings), fall, told === digit || seen === "none" ? "good" : ""];
  const sure = `${Math.round(100 * share)} %`;
  if (seen === "none") {
    const where = `It fell into the nearest valley, which is called ${name} (${sure}).`;
    return ["Nothing was asked.", `${where} ${fall}`, ""];
  }
  const right = name === digit;
  const lead = `From ${WORDS[seen]} it says ${name}${right ? "" : `, and it is a ${digit}`}.`;
  return [lead, `It is ${sure} sure. ${fall}`, right ? "good" : "bad"];
}

/** What is known before the first sweep. */
function before({ seen, told }) {
  const free = told < 0 ? "All ten names have the same share." : `The name ${told} is held.`;
  return seen === "none" ? free : `It has ${WORDS[seen]}, and no floor has heard of it. ${free}`;
}

/** What a tower that is told a name makes of it. */
function drawn({ seen, told, digit }) {
  if (seen === "none") return `This is its picture of the name ${told}.`;
  if (seen === "whole") return "Picture and name are both held: only the floors between them move.";
  if (told === digit) return `It drew the rest, knowing that it is a ${told}.`;
  return `It drew the rest as if it were a ${told}.`;
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const whole = (text, low, high, other) => Math.round(numberFrom(text, low, high, other));
  return {
    digit: whole(given.digit, 0, 9, otherwise.digit),
    seen: given.seen in WORDS ? given.seen : otherwise.seen,
    told: whole(given.told, -1, 9, otherwise.told),
    way: ["turns", "once"].includes(given.way) ? given.way : otherwise.way,
    sweep: whole(given.sweep, 0, SWEEPS, otherwise.sweep),
  };
}

const PARTS = [
  ["total", "total"],
  ["look", "picture–features"],
  ["pool", "features–pooled"],
  ["up", "pooled–hidden"],
  ["top", "hidden–name"],
  ["neurons", "neurons"],
];
const STYLE_TOWER = `
.amx-tower .paper { fill: var(--amx-paper); stroke: var(--amx-edge); stroke-width: 1; }
.amx-tower .held { fill: none; stroke: var(--amx-query); stroke-width: 3; }
.amx-tower .ink { fill: var(--amx-ink); }
.amx-tower .bar { fill: var(--amx-memory); }
.amx-tower .bar.told { fill: var(--amx-query); }
.amx-tower path { fill: none; stroke-width: 1.6; }
.amx-tower path.total { stroke: var(--amx-energy); stroke-width: 3; }
.amx-tower path.look { stroke: var(--amx-query); }
.amx-tower path.pool { stroke: var(--amx-trajectory); stroke-dasharray: 7 3; }
.amx-tower path.up { stroke: var(--amx-memory); }
.amx-tower path.top { stroke: var(--amx-memory); stroke-dasharray: 5 3; }
.amx-tower path.neurons { stroke: var(--amx-muted); stroke-dasharray: 2 3; }
.amx-tower .rise { stroke: var(--amx-wrong); stroke-width: 2; opacity: .7; }
.amx-tower .now { stroke: var(--amx-edge); stroke-width: 1; }
`;

class Tower extends Explorable {
  constructor(life) {
    super(life);
    this.moment = 0; // which state is shown
    this.plot = svg("svg", {});
    this.ui.stage.append(this.plot);
  }

  /** The run of the present question: the sweep that is shown does not change it. */
  compute() {
    const { sweep, ...question } = this.now;
    const key = JSON.stringify(question);
    if (key !== this.asked) this.ride = run({ ...question, sweep });
    this.asked = key;
  }

  layout() {
    const w = Math.max(260, this.ui.stage.clientWidth);
    const narrow = w < 560;
    const pic = narrow ? Math.min(150, w * 0.46) : 176;
    const side = narrow ? w - pic - 22 : 150;
    const high = Math.max(pic, 160); // of the ten bars: each name has a line of its own
    const left = narrow ? 6 : pic + side + 62;
    const [top, bottom] = narrow ? [high + 64, high + 224] : [24, 24 + pic];
    this.box = {
      pic,
      top: 24,
      bars: pic + 22,
      side,
      high,
      left,
      right: w - 4,
      plotTop: top,
      plotBottom: bottom,
    };
    this.key = legend(PARTS, { left, top: bottom + 20, width: w - 4 - left, most: 2 });
    size(this.plot, w, bottom + 11 + this.key.height);
  }

  draw() {
    this.layout();
    this.frame();
  }

  /** The slider follows the sweeps. */
  seek(t) {
    this.moment = Math.round(2 * this.now.sweep * t);
    this.hands.sweep.show(Math.floor(this.moment / 2));
  }

  frame() {
    const states = this.ride.film[this.moment];
    this.plot.replaceChildren(this.picture(states), this.names(states), ...this.curves(), this.key.root);
  }

  picture(states) {
    const { pic, top } = this.box;
    const { seen } = this.now;
    const cell = pic / SIDE;
    const mask = held(seen);
    const cells = pixels(states).map((ink, i) => {
      const spot = { x: (i % SIDE) * cell + 1, y: top + Math.floor(i / SIDE) * cell };
      const unknown = this.moment === 0 && !mask[i];
      const opacity = { "fill-opacity": unknown ? 0.12 : ink.toFixed(3) };
      return svg("rect", { class: "ink", ...spot, width: cell, height: cell, ...opacity });
    });
    const frame = { whole: [pic, pic], top: [pic, pic / 2], left: [pic / 2, pic] }[seen];
    const drawing = svg("g", {});
    const [long, short] = frame ? ["picture (orange: held)", "orange: held"] : ["picture", "picture"];
    const title = pic < 140 ? short : long;
    drawing.append(
      svg("text", { class: "strong", x: 1, y: 13 }, title),
      svg("rect", { class: "paper", x: 1, y: top, width: pic, height: pic }),
      ...cells,
    );
    if (frame) {
      drawing.append(svg("rect", { class: "held", x: 1, y: top, width: frame[0], height: frame[1] }));
    }
    return drawing;
  }

  names(states) {
    const { bars, top, high, side } = this.box;
    const { told } = this.now;
    const row = high / NAMES;
    const long = side - 52;
    const title = svg("text", { class: "strong", x: bars, y: 13 }, told >= 0 ? "name (held)" : "name");
    const drawing = svg("g", {}, title);
    activations(states).label.forEach((share, k) => {
      const y = top + k * row;
      const spot = { x: bars + 14, y: y + 2, width: Math.max(1, share * long), height: row - 4, rx: 2 };
      drawing.append(
        svg("text", { x: bars, y: y + row / 2 + 4 }, String(k)),
        svg("rect", { class: k === told ? "bar told" : "bar", ...spot }),
      );
      if (share > 0.005) {
        const x = bars + 19 + share * long;
        drawing.append(svg("text", { x, y: y + row / 2 + 4 }, `${Math.round(100 * share)} %`));
      }
    });
    return drawing;
  }

  curves() {
    const { left, right, plotTop, plotBottom } = this.box;
    const { trace, rises } = this.ride;
    const changes = PARTS.map(([key]) => trace.map((e) => e[key] - trace[0][key]));
    const all = changes.flat();
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (t) => left + (t / (trace.length - 1)) * (right - left);
    const y = (e) => plotBottom - 4 - ((e - low) / (high - low || 1)) * (plotBottom - plotTop - 8);
    const upright = (kind, t, y1) => svg("line", { class: kind, x1: x(t), x2: x(t), y1, y2: plotBottom });
    const curve = ([key], i) => {
      const points = changes[i].slice(0, this.moment + 1).map((e, t) => [x(t), y(e)]);
      return svg("path", { class: key, d: line(points) });
    };
    return [
      svg("text", { class: "strong", x: left, y: plotTop - 11 }, "energy since the start, by part"),
      svg("line", { class: "axis", x1: left, x2: right, y1: y(0), y2: y(0) }),
      upright("now", this.moment, plotTop),
      ...rises.filter((t) => t <= this.moment).map((t) => upright("rise", t, plotBottom - 8)),
      ...PARTS.map(curve).reverse(),
    ];
  }

  told() {
    return tell(this.ride, this.now);
  }

  pace() {
    return 250 * this.now.sweep;
  }

  /** Another question runs to its end. */
  turn(change, then) {
    super.turn({ sweep: SWEEPS, ...change }, then);
  }

  controls() {
    const { ui } = this;
    const hand = (name, label, min, max, more = { then: "play" }) =>
      this.slide(name, { label, min, max, step: 1, format: String, ...more });
    const told = { format: (k) => (k < 0 ? "none" : `“a ${k}”`), then: "play" };
    ui.controls.append(
      hand("digit", "Digit (ten it never saw)", 0, 9),
      hand("told", "Name that it is told", -1, 9, told),
      hand("sweep", "Sweep", 0, SWEEPS, {}),
    );
    const jumps = [
      ["turns", "in turns"],
      ["once", "all at once"],
    ];
    const seen = this.pick("seen", "Held of the picture", SEEN, "play");
    ui.row.append(seen, this.pick("way", "The floors jump", jumps, "play"));
    ui.hint.append(
      "Lie to it about the name; hold nothing and give it only a name; let all floors jump at once. " +
        `Of 397 digits that it has not seen it names ${nice(100 * TOWER_MEASURED.named, 0)} % right.`,
    );
  }

  question() {
    const why =
      "Name and pixels are only currents to it, and both are held. " +
      "The free pixels settle where they fit both best.";
    return {
      question: "Hold the upper half of this 3 and say that it is a 2. What will the tower draw below?",
      answers: [
        ["three", "The rest of a 3"],
        ["two", "The foot of a 2"],
      ],
      reply: (key) => `${key === "two" ? "Yes" : "No"}: the foot of a 2. ${why}`,
      asked: { ...START, told: 2 },
    };
  }

  state() {
    const sweep = this.moment / 2;
    return { sweep, ...(Number.isInteger(sweep) ? seenAt(this.ride, { ...this.now, sweep }) : {}) };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Tower, element, options, {
    name: "tower",
    title: "A tower of five floors, live",
    label: "Explorable: a memory of five floors completes and names a digit by going down one energy",
    ...{ style: STYLE_TOWER, start: START, settingsFrom },
  });
}

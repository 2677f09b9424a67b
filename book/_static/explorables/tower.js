import { choice, explorable, nice, numberFrom, set, slider, svg } from "./common.js";
import { TOWER_DIGITS, TOWER_MEASURED, TOWER_WEIGHTS } from "./tower_weights.js";

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
const TURNS = [["features", "hidden"], ["image", "pooled", "label"]];
const START = { digit: 3, seen: "top", told: -1, way: "turns", sweep: SWEEPS };
const SEEN = [["whole", "all of it"], ["top", "upper half"], ["left", "left half"], ["none", "nothing"]];
const WORDS = { whole: "the whole picture", top: "the upper half", left: "the left half", none: "nothing" };

/** Every parameter as numbers: a byte times a scale. */
export function parameters() {
  return Object.fromEntries(Object.entries(TOWER_WEIGHTS).map(([name, { scale, bits }]) =>
    [name, Array.from(atob(bits), (c) => scale * ((c.charCodeAt(0) << 24) >> 24))]));
}

const P = parameters();
const BETA = { image: 1, features: P.betaFeatures[0], pooled: P.betaPooled[0], hidden: P.betaHidden[0], label: P.betaLabel[0] };

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const logCosh = (x) => Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2;

function softmax(x, beta) {
  const top = Math.max(...x);
  const raw = x.map((v) => Math.exp(beta * (v - top)));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** What each floor says. */
export function activations(states) {
  return Object.fromEntries(FLOORS.map((floor) => [floor, floor === "label"
    ? softmax(states.label, BETA.label) : states[floor].map((x) => Math.tanh(BETA[floor] * x))]));
}

/** Picture to features: W * v. */
function look(v) {
  const out = new Array(MAPS * WIDE * WIDE).fill(0);
  eachTap((f, p, w) => { out[f] += w * v[p]; });
  return out;
}

/** Features back to the picture: the transposed convolution. */
function unlook(f) {
  const out = new Array(SIDE * SIDE).fill(0);
  eachTap((i, p, w) => { out[p] += w * f[i]; });
  return out;
}

function eachTap(visit) {
  for (let m = 0; m < MAPS; m++)
    for (let r = 0; r < WIDE; r++)
      for (let c = 0; c < WIDE; c++)
        for (let a = 0; a < 3; a++)
          for (let b = 0; b < 3; b++)
            visit((m * WIDE + r) * WIDE + c, (r + a) * SIDE + c + b, P.conv[(m * 3 + a) * 3 + b]);
}

const cellOf = Array.from({ length: MAPS * WIDE * WIDE }, (_, i) => {
  const [m, r, c] = [Math.floor(i / (WIDE * WIDE)), Math.floor(i / WIDE) % WIDE, i % WIDE];
  return (m * CELL + (r >> 1)) * CELL + (c >> 1);
});

function pool(f) {
  const out = new Array(MAPS * CELL * CELL).fill(0);
  f.forEach((x, i) => { out[cellOf[i]] += (P.pooling[0] * x) / 4; });
  return out;
}

/** A matrix kept as one list of rows: times x, and transposed times x. */
const times = (W, rows, x) => Array.from({ length: rows }, (_, i) => dot(x, W.slice(i * x.length, (i + 1) * x.length)));
const timesT = (W, columns, x) => Array.from({ length: columns }, (_, j) => x.reduce((sum, v, i) => sum + v * W[i * columns + j], 0));
const plus = (...lists) => lists[0].map((_, i) => lists.reduce((sum, list) => sum + list[i], 0));

/** What each floor hears: minus the slope of all synapses. */
export function currents(hat) {
  const spread = cellOf.map((cell) => (P.pooling[0] * hat.pooled[cell]) / 4);
  const bias = Array.from({ length: MAPS * WIDE * WIDE }, (_, i) => P.featureBias[Math.floor(i / (WIDE * WIDE))]);
  return {
    image: plus(P.imageBias, unlook(hat.features)),
    features: plus(bias, look(hat.image), spread),
    pooled: plus(P.pooledBias, pool(hat.features), timesT(P.up, MAPS * CELL * CELL, hat.hidden)),
    hidden: plus(P.hiddenBias, times(P.up, HIDDEN, hat.pooled), timesT(P.top, HIDDEN, hat.label)),
    label: plus(P.labelBias, times(P.top, NAMES, hat.hidden)),
  };
}

/** The energy in six parts: neurons with their biases, four synapses, and the total. */
export function energies(states) {
  const hat = activations(states);
  const price = FLOORS.reduce((sum, floor) => {
    const paid = dot(states[floor], hat[floor]);
    if (floor !== "label") return sum + paid - states[floor].reduce((s, x) => s + logCosh(BETA[floor] * x), 0) / BETA[floor];
    const top = Math.max(...states.label);
    return sum + paid - top - Math.log(states.label.reduce((s, x) => s + Math.exp(BETA.label * (x - top)), 0)) / BETA.label;
  }, 0);
  const featureBias = hat.features.reduce((sum, x, i) => sum + x * P.featureBias[Math.floor(i / (WIDE * WIDE))], 0);
  const own = dot(P.imageBias, hat.image) + featureBias + dot(P.pooledBias, hat.pooled) + dot(P.hiddenBias, hat.hidden) + dot(P.labelBias, hat.label);
  const parts = {
    neurons: price - own,
    look: -dot(hat.features, look(hat.image)),
    pool: -dot(hat.pooled, pool(hat.features)),
    up: -dot(hat.hidden, times(P.up, HIDDEN, hat.pooled)),
    top: -dot(hat.label, times(P.top, NAMES, hat.hidden)),
  };
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}

/** Which pixels are held. */
export function held(seen) {
  return Array.from({ length: SIDE * SIDE }, (_, i) => ({
    whole: true, top: i < (SIDE * SIDE) / 2, left: i % SIDE < SIDE / 2, none: false,
  })[seen]);
}

/** The states a question starts from: what is known is put in, everything else is zero. */
export function ask({ digit, seen, told }) {
  const mask = held(seen);
  return {
    image: TOWER_DIGITS[digit].map((ink, i) => (mask[i] ? Math.atanh(INK * (ink / 8 - 1)) : 0)),
    features: new Array(MAPS * WIDE * WIDE).fill(0),
    pooled: new Array(MAPS * CELL * CELL).fill(0),
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
    next[floor] = floor === "image" ? heard.image.map((x, i) => (mask[i] ? states.image[i] : x)) : heard[floor];
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

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, settings) {
  const end = ride.film.at(-1);
  const said = activations(end).label;
  const name = said.indexOf(Math.max(...said));
  const sure = `${Math.round(100 * said[name])} %`;
  const fell = nice(ride.trace[0].total - ride.trace.at(-1).total, 0);
  const steps = settings.way === "turns" ? 2 * SWEEPS : SWEEPS;
  if (ride.rises.length) {
    return [`The energy rose in ${ride.rises.length} of ${steps} jumps.`, "Each floor went to the best place for where its neighbours had been. By the time it arrived, they had left.", "bad"];
  }
  const fall = `The energy fell by ${fell} and rose in none of ${steps} jumps.`;
  if (settings.told >= 0) {
    const what = settings.seen === "none" ? `This is its picture of the name ${settings.told}.`
      : settings.seen === "whole" ? "Picture and name are both held: only the floors between them move."
      : settings.told === settings.digit ? `It drew the rest, knowing that it is a ${settings.told}.`
      : `It drew the rest as if it were a ${settings.told}.`;
    return [what, fall, settings.told === settings.digit || settings.seen === "none" ? "good" : ""];
  }
  if (settings.seen === "none") return ["Nothing was asked.", `It fell into the nearest valley, which is called ${name} (${sure}). ${fall}`, ""];
  const right = name === settings.digit;
  const lead = `From ${WORDS[settings.seen]} it says ${name}${right ? "" : `, and it is a ${settings.digit}`}.`;
  return [lead, `It is ${sure} sure. ${fall}`, right ? "good" : "bad"];
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

const PARTS = [["total", "total"], ["look", "picture–features"], ["pool", "features–pooled"], ["up", "pooled–hidden"], ["top", "hidden–name"], ["neurons", "neurons"]];
const STYLE_TOWER = `
.amx-tower .axis { stroke: var(--amx-line); stroke-width: 1; }
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
.amx-tower text.strong { fill: var(--amx-ink); font-weight: 600; }
.amx-tower text.mid { text-anchor: middle; }
.amx-tower text.end { text-anchor: end; }
`;

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "tower", title: "A tower of five floors, live",
    label: "Explorable: a memory of five floors completes and names a digit by going down one energy",
    style: STYLE_TOWER, start: START, settingsFrom, play,
  });
  const { ui, now, touched, halt } = life;
  let ride = run(now);
  const plot = svg("svg", {});
  ui.stage.append(plot);
  let box = {};

  function layout() {
    const w = Math.max(260, ui.stage.clientWidth);
    const narrow = w < 560;
    const pic = narrow ? Math.min(150, w * 0.46) : 176;
    const side = narrow ? w - pic - 22 : 150;
    box = {
      w, pic, top: 24, bars: pic + 22, barsWide: side, barsHigh: pic,
      left: narrow ? 6 : pic + side + 62, right: w - 4,
      plotTop: narrow ? pic + 74 : 24, plotBottom: narrow ? pic + 234 : 24 + pic,
    };
    box.high = box.plotBottom + 62;
    set(plot, { width: w, height: box.high, viewBox: `0 0 ${w} ${box.high}`, style: `height:${box.high}px` });
  }

  function draw(moment) {
    const k = Math.min(ride.film.length - 1, Math.max(0, Math.round(moment)));
    const states = ride.film[k];
    plot.replaceChildren(picture(states), names(states), ...curves(k));
  }

  function picture(states) {
    const size = box.pic / SIDE;
    const mask = held(now.seen);
    const start = k0(states);
    const cells = pixels(states).map((ink, i) => svg("rect", {
      class: "ink", x: (i % SIDE) * size + 1, y: box.top + Math.floor(i / SIDE) * size, width: size, height: size,
      "fill-opacity": start && !mask[i] ? 0.12 : ink.toFixed(3),
    }));
    const frame = { whole: [box.pic, box.pic], top: [box.pic, box.pic / 2], left: [box.pic / 2, box.pic] }[now.seen];
    const hold = frame ? [svg("rect", { class: "held", x: 1, y: box.top, width: frame[0], height: frame[1] })] : [];
    return svg("g", {}, svg("text", { class: "strong", x: 1, y: 13 }, frame ? "picture (orange: held)" : "picture"),
      svg("rect", { class: "paper", x: 1, y: box.top, width: box.pic, height: box.pic }), ...cells, ...hold);
  }

  const k0 = (states) => states === ride.film[0];

  function names(states) {
    const said = activations(states).label;
    const row = box.barsHigh / NAMES;
    const long = box.barsWide - 52;
    return svg("g", {}, svg("text", { class: "strong", x: box.bars, y: 13 }, now.told >= 0 ? "name (held)" : "name"),
      ...said.flatMap((share, k) => {
        const y = box.top + k * row;
        return [
          svg("text", { x: box.bars, y: y + row / 2 + 4 }, String(k)),
          svg("rect", { class: k === now.told ? "bar told" : "bar", x: box.bars + 14, y: y + 2, width: Math.max(1, share * long), height: row - 4, rx: 2 }),
          ...(share > 0.005 ? [svg("text", { x: box.bars + 19 + share * long, y: y + row / 2 + 4 }, `${Math.round(100 * share)} %`)] : []),
        ];
      }));
  }

  function curves(k) {
    const moments = ride.trace.length - 1;
    const changes = PARTS.map(([key]) => ride.trace.map((e) => e[key] - ride.trace[0][key]));
    const all = changes.flat();
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (t) => box.left + (t / moments) * (box.right - box.left);
    const y = (e) => box.plotBottom - 4 - ((e - low) / (high - low || 1)) * (box.plotBottom - box.plotTop - 8);
    const line = (i) => `M${changes[i].slice(0, k + 1).map((e, t) => `${x(t).toFixed(1)},${y(e).toFixed(1)}`).join("L")}`;
    const half = (box.right - box.left) / 2;
    const legend = PARTS.map(([key, text], i) => {
      const lx = box.left + (i % 2) * half;
      const ly = box.plotBottom + 20 + 17 * Math.floor(i / 2);
      return svg("g", {}, svg("path", { class: key, d: `M${lx},${ly - 4}h18` }), svg("text", { x: lx + 23, y: ly }, text));
    });
    return [
      svg("text", { class: "strong", x: box.left, y: box.plotTop - 11 }, "energy since the start, by part"),
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: y(0), y2: y(0) }),
      svg("line", { class: "now", x1: x(k), x2: x(k), y1: box.plotTop, y2: box.plotBottom }),
      ...ride.rises.filter((t) => t <= k).map((t) => svg("line", { class: "rise", x1: x(t), x2: x(t), y1: box.plotBottom - 8, y2: box.plotBottom })),
      ...PARTS.map(([key], i) => svg("path", { class: key, d: line(i) })).reverse(),
      ...legend,
    ];
  }

  function show() {
    digit.show(now.digit);
    told.show(now.told);
    sweep.show(now.sweep);
    seen.show(now.seen);
    way.show(now.way);
  }

  function drawAll() {
    layout();
    draw(2 * now.sweep);
  }

  /** Run again and let the sweeps pass; the slider follows. */
  function play(after = null) {
    halt();
    ride = run(now);
    now.sweep = SWEEPS;
    show();
    layout();
    life.film(3000, (t) => {
      draw(2 * SWEEPS * t);
      sweep.show(Math.round(SWEEPS * t));
    }, () => ui.say(...tell(ride, now)), after);
  }

  function change(part) {
    Object.assign(now, part);
    touched();
    play();
  }

  const digit = slider({ name: "digit", label: "Digit (ten it never saw)", min: 0, max: 9, step: 1, value: now.digit, format: String, input: (k) => change({ digit: k }) });
  const told = slider({
    name: "told", label: "Name that it is told", min: -1, max: 9, step: 1, value: now.told,
    format: (k) => (k < 0 ? "none" : `“a ${k}”`), input: (k) => change({ told: k }),
  });
  const sweep = slider({
    name: "sweep", label: "Sweep", min: 0, max: SWEEPS, step: 1, value: now.sweep, format: String,
    input: (k) => { halt(); now.sweep = k; touched(); draw(2 * k); ui.say(...tell(ride, now)); },
  });
  const seen = choice({ name: "seen", label: "Held of the picture", value: now.seen, options: SEEN, input: (key) => change({ seen: key }) });
  const way = choice({ name: "way", label: "The floors jump", value: now.way, options: [["turns", "in turns"], ["once", "all at once"]], input: (key) => change({ way: key }) });
  ui.controls.append(digit.root, told.root, sweep.root);
  ui.row.append(seen.root, way.root);
  ui.hint.append(`Lie to it about the name; hold nothing and give it only a name; let all floors jump at once. Of 397 digits that it has not seen it names ${nice(100 * TOWER_MEASURED.named, 0)} % right.`);

  life.ask({
    question: "Hold the upper half of this 3 and say that it is a 2. What will the tower draw below?",
    answers: [["three", "The rest of a 3"], ["two", "The foot of a 2"]],
    reply: (key) => `${key === "two" ? "Yes" : "No"}: the foot of a 2. Name and pixels are only currents to it, and both are held. The free pixels settle where they fit both best.`,
    asked: { ...START, told: 2 },
  });

  drawAll();
  ui.say(...tell(ride, now));
  return life.open({ draw: drawAll });
}

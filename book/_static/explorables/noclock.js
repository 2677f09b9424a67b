import { bestFieldOf, quadrature } from "./bestfield.js";
import { colours, line, nice, node, numberFrom, pen, push, random, set, svg } from "./common.js";
import { Plane, grip } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// A field with no clock. It must teach: descent needs no schedule, only a sum of step sizes; and in the plane
// the settings that are right for pictures rest beside the data, because a place does not tell its noise.
//
//   z <- z - eta v(z),  v the best field of Equilibrium Matching for the points, or
//   v = c0 (z - m(z)), the slope of an energy: c0 times a log-sum-exp of the points (chapter 3)

const C0 = 4;
const BETA = 16; // of the slope
const COUNT = 40; // points of a set
const STARTS = 40;
const BRIEF = 3; // milliseconds of walking a frame, while a hand waits
const WIDE = 2.2;
const NODES = 24; // of a panel of gamma
const FEW = 12; // for the arrows that are drawn: less than a pixel off
const FLOOR = 1e-3; // the least noise that is looked at
const INITIAL = {
  data: "circle",
  field: "corner",
  corner: 0.8,
  steps: 80,
  eta: 0.005,
  tol: 0.1,
  x: 1.7,
  y: 0.9,
};
const LIMITS = { corner: [0, 0.95], steps: [5, 150], eta: [0.002, 0.05], tol: [0, 2] };
const FIELDS = ["corner", "cosine", "slope"]; // of the best field, what c it is for

function moons() {
  const half = COUNT / 2;
  const upper = Array.from({ length: half }, (_, i) => {
    const a = (Math.PI * i) / (half - 1);
    return [Math.cos(a) - 0.5, Math.sin(a) - 0.25];
  });
  return [...upper, ...upper.map(([x, y]) => [-x, -y])];
}

export const DATA = {
  circle: Array.from({ length: COUNT }, (_, i) => {
    const a = (2 * Math.PI * i) / COUNT;
    return [Math.cos(a), Math.sin(a)];
  }),
  moons: moons(),
  three: [
    [-1, -0.6],
    [1, -0.4],
    [0.1, 1],
  ],
};

/** The places of gamma, each with its c: a corner and a straight line, or a quarter of a cosine. */
export function gammas({ field, corner }, n = NODES) {
  const nodes = quadrature({ n, floor: FLOOR, a: corner, scale: C0 });
  if (field === "corner") return nodes;
  return nodes.map((at) => ({ ...at, c: C0 * Math.cos((Math.PI * at.gamma) / 2) }));
}

/** c0 times the way to the mean of the points, weighted by nearness: an energy has this slope. */
export function slope([x, y], points) {
  const gaps = points.map(([a, b]) => (x - a) ** 2 + (y - b) ** 2);
  const least = Math.min(...gaps);
  let [sum, mx, my] = [0, 0, 0];
  points.forEach(([a, b], i) => {
    const pull = Math.exp((-BETA * (gaps[i] - least)) / 2);
    sum += pull;
    mx += pull * a;
    my += pull * b;
  });
  return [C0 * (x - mx / sum), C0 * (y - my / sum)];
}

/** The field of some settings, as a function of the place; uphill. */
export function fieldOf(settings, n = NODES) {
  const points = DATA[settings.data];
  if (settings.field === "slope") return (z) => slope(z, points);
  const best = bestFieldOf(points, gammas(settings, n));
  return (z) => best(z).field;
}

/** One step more of a walk; false where the arrow is no longer than `tol`. */
function further(states, arrow, { eta, tol }) {
  const [x, y] = states.at(-1);
  const [u, v] = arrow([x, y]);
  if (Math.hypot(u, v) <= tol) return false;
  states.push([x - eta * u, y - eta * v]);
  return true;
}

/** All states from the start on, until the arrow is no longer than `tol` or the steps are used up. */
export function walk(start, arrow, now) {
  const states = [start];
  while (states.length <= now.steps && further(states, arrow, now));
  return states;
}

/** Pure noise, always the same: STARTS places of N(0, 1). */
export function noise() {
  const dice = random(16);
  return Array.from({ length: STARTS }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - dice())), 2 * Math.PI * dice()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const gapTo = ([x, y], points) => Math.min(...points.map(([a, b]) => Math.hypot(x - a, y - b)));

/** Where the walks ended: the middle gap to the nearest point, how many stopped early, the middle steps. */
export function facts(walks, { data, steps }) {
  const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const gaps = walks.map((states) => gapTo(states.at(-1), DATA[data]));
  const taken = walks.map((states) => states.length - 1);
  return { gap: middle(gaps), stopped: taken.filter((k) => k < steps).length, taken: middle(taken) };
}

/** What the picture notes in its corner: the sum of the steps, and what stops them. */
export function summed({ steps, eta, tol }) {
  const sum = `t = ${steps} × ${nice(eta, 3)} = ${nice(steps * eta)}`;
  return tol > 0 ? `${sum}, stop below ${nice(tol)}` : sum;
}

/** How steep the bowl of a point is: steps above 2 over it jump across. */
export function steepest({ field, corner }) {
  if (field === "slope") return C0;
  return field === "cosine" ? (C0 * Math.PI) / 2 : C0 / (1 - corner);
}

/** What happened, in words: [lead, rest, kind]. */
export function tell({ gap, stopped, taken }, settings) {
  const { steps, eta, tol } = settings;
  const lead = `${steps} steps of ${nice(eta, 3)}: t = ${nice(steps * eta)}.`;
  const ends = `Half of the starts end within ${nice(gap, 3)} of a point.`;
  const early = tol > 0 ? ` ${stopped} of ${STARTS} stopped early; half took ${taken} steps or fewer.` : "";
  if (eta * steepest(settings) > 2) {
    return [lead, `${ends}${early} Steps are too long for the bowls: they jump across.`, "bad"];
  }
  if (gap < 0.03) return [lead, `${ends}${early}`, "good"];
  const why =
    steps * eta < 0.35
      ? " The sum of the steps is small: they are on their way."
      : settings.field === "slope"
        ? " Between close points this energy has its floor."
        : " They rest beside the data.";
  return [lead, `${ends}${early}${why}`, "bad"];
}

export function settingsFrom(given) {
  const pick = (list, value, otherwise) => (list.includes(value) ? value : otherwise);
  const number = (key) => numberFrom(given[key], ...LIMITS[key], INITIAL[key]);
  return {
    data: pick(Object.keys(DATA), given.data, INITIAL.data),
    field: pick(FIELDS, given.field, INITIAL.field),
    corner: number("corner"),
    steps: Math.round(number("steps")),
    eta: number("eta"),
    tol: number("tol"),
    x: numberFrom(given.x, -WIDE, WIDE, INITIAL.x),
    y: numberFrom(given.y, -WIDE, WIDE, INITIAL.y),
  };
}

const STYLE_CLOCK = `
.amx-noclock .plot {
  position: relative; aspect-ratio: 1; max-width: 30rem; margin: 0 auto; overflow: hidden;
  border: 1px solid var(--amx-line); border-radius: 8px;
}
.amx-noclock .plot > * { position: absolute; inset: 0; height: 100%; }
.amx-noclock .datum { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-noclock svg text.sum { fill: var(--amx-ink); font-size: 12px; }
.amx-noclock .way { fill: none; stroke: var(--amx-query); stroke-width: 2.5; }
.amx-noclock .end { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-noclock .start { cursor: grab; touch-action: none; }
.amx-noclock .start .dot { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 2; }
`;

class NoClock extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([-WIDE, WIDE], [-WIDE, WIDE]);
    const label = "Arrows down the field, the ways of forty starts, and the data";
    this.land = node("canvas", { role: "img", "aria-label": label });
    this.data = svg("g");
    this.way = svg("path", { class: "way" });
    this.end = svg("circle", { class: "end", r: 4 });
    this.sum = svg("text", { x: 8, class: "sum" });
    this.over = svg("svg", {}, this.data, this.way, this.end, this.sum);
    this.start = this.handle();
    this.over.append(this.start.root);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.ui.stage.append(this.plot);
    this.noise = noise();
  }

  handle() {
    return grip({
      ...{ kind: "start", label: "A start of your own: arrow keys move it", radius: 8, digits: 2 },
      ...{ plane: this.plane, over: this.over },
      at: () => [this.now.x, this.now.y],
      put: ([x, y]) => this.turn({ x, y }),
    });
  }

  /** The field and the own walk; those of the noise begin anew where they would go elsewhere. */
  compute() {
    const { data, field, corner, eta, tol, x, y } = this.now;
    const ground = `${data} ${field} ${corner}`;
    if (this.ground !== ground) {
      this.arrow = fieldOf(this.now);
      this.arrows = null;
    }
    if (this.ground !== ground || this.gait !== `${eta} ${tol}`) {
      this.walks = this.noise.map((start) => [start]);
      this.resting = new Set();
    }
    [this.ground, this.gait] = [ground, `${eta} ${tol}`];
    this.mine = walk([x, y], this.arrow, this.now);
  }

  /** Walks of the noise up to a step, as many as some milliseconds allow; whether all are there. */
  advance(step, milliseconds = Infinity) {
    const began = performance.now();
    for (const states of this.walks) {
      while (states.length <= step && !this.resting.has(states)) {
        if (!further(states, this.arrow, this.now)) this.resting.add(states);
      }
      if (performance.now() - began > milliseconds) return false;
    }
    return true;
  }

  seek(t) {
    this.share = t;
    this.advance(Math.round(t * this.now.steps));
  }

  /** Forty walks are too many for one frame. */
  instant() {
    this.share = 1;
    this.gradually(() => this.advance(this.now.steps, BRIEF));
  }

  /** Arrows down the field at fixed places, once for each field. */
  strokes() {
    if (this.arrows) return this.arrows;
    const { xs, ys } = this.plane.cells(15, 15);
    const places = [...ys].flatMap((y) => [...xs].map((x) => [x, y]));
    const drawn = fieldOf(this.now, FEW);
    this.arrows = places.map((z) => [z, drawn(z)]);
    return this.arrows;
  }

  drawArrows(context) {
    const { plane } = this;
    const unit = plane.w / 560; // an arrow of length 4 is half a cell
    context.beginPath();
    for (const [place, [f1, f2]] of this.strokes()) {
      const [x, y] = plane.to(place);
      const [u, v] = [-f1 * unit, f2 * unit];
      const far = Math.hypot(u, v);
      const shrunk = far > 9 ? 9 / far : 1;
      const [a, b] = far > 0 ? [u / far, v / far] : [0, 0];
      const [p, q] = [x + u * shrunk, y + v * shrunk];
      context.moveTo(x - u * shrunk, y - v * shrunk);
      context.lineTo(p, q);
      if (far < 1) continue;
      context.moveTo(p - 4 * a - 2.5 * b, q - 4 * b + 2.5 * a);
      context.lineTo(p, q);
      context.lineTo(p - 4 * a + 2.5 * b, q - 4 * b - 2.5 * a);
    }
    context.stroke();
  }

  draw() {
    if (!this.plane.resize(this.plot)) return;
    const { plane, now } = this;
    const look = colours(this.ui.root);
    const context = pen(this.land, plane.w, plane.h);
    context.strokeStyle = look.muted;
    context.globalAlpha = 0.6;
    this.drawArrows(context);
    this.drawWalks(context, look);
    this.over.setAttribute("viewBox", `0 0 ${plane.w} ${plane.h}`);
    const mark = ([cx, cy]) => svg("circle", { class: "datum", cx, cy, r: 5 });
    this.data.replaceChildren(...DATA[now.data].map((x) => mark(plane.to(x))));
    const mine = this.until(this.mine);
    this.way.setAttribute("d", line(mine.map((z) => plane.to(z))));
    const [cx, cy] = plane.to(mine.at(-1));
    set(this.end, { cx, cy });
    this.start.show(plane, [now.x, now.y]);
    this.sum.setAttribute("y", plane.h - 9);
    this.sum.textContent = summed(now);
  }

  /** The part of a walk that has been shown by now: every step takes as long. */
  until(states) {
    return states.slice(0, 1 + Math.round(this.share * this.now.steps));
  }

  drawWalks(context, look) {
    const { plane } = this;
    context.strokeStyle = look.trajectory;
    context.fillStyle = look.trajectory;
    context.globalAlpha = 0.45;
    context.beginPath();
    for (const states of this.walks) {
      this.until(states).forEach((z, k) => {
        const [x, y] = plane.to(z);
        if (k) context.lineTo(x, y);
        else context.moveTo(x, y);
      });
    }
    context.stroke();
    context.globalAlpha = 0.9;
    context.beginPath();
    for (const states of this.walks) {
      const [x, y] = plane.to(this.until(states).at(-1));
      context.moveTo(x + 2.6, y);
      context.arc(x, y, 2.6, 0, 7);
    }
    context.fill();
    context.globalAlpha = 1;
  }

  facts() {
    return facts(
      this.walks.map((states) => this.until(states)),
      this.now,
    );
  }

  told() {
    return tell(this.facts(), this.now);
  }

  pace() {
    return 1800;
  }

  turn(change, then) {
    const late = "corner" in change ? { field: "corner" } : {}; // the others have no corner
    super.turn({ ...change, ...late }, then);
  }

  range(name, label, step, digits) {
    const [min, max] = LIMITS[name];
    return this.slide(name, {
      ...{ label, min, max, step, format: (v) => nice(v, digits) },
      input: (v) => this.turn({ [name]: Number(v.toFixed(4)) }),
    });
  }

  controls() {
    const { ui } = this;
    const sets = [
      ["circle", "circle"],
      ["moons", "two moons"],
      ["three", "three points"],
    ];
    const fields = [
      ["corner", "best, c with a corner"],
      ["cosine", "best, c a cosine"],
      ["slope", "slope of an energy"],
    ];
    ui.controls.append(
      this.pick("data", "data", sets),
      this.pick("field", "arrows", fields),
      this.range("steps", "steps", 1, 0),
      this.range("eta", "step size η", 0.001, 3),
      this.range("corner", "corner of c", 0.01, 2),
      this.range("tol", "stop when the arrow is shorter than", 0.02, 2),
    );
    ui.row.append(push("Play from noise", () => this.play()));
    this.visits("Drag the orange start. Or try", [
      ["a late corner", { corner: 0.95, steps: 100, eta: 0.01 }],
      ["half the steps, twice as long", { steps: 40, eta: 0.01 }],
      ["let each stop by itself", { corner: 0.95, steps: 150, eta: 0.01, tol: 0.4 }],
      ["the slope of an energy", { field: "slope", eta: 0.02 }],
    ]);
  }

  question() {
    return {
      question:
        "Forty points on a circle, the best field there is, and steps in plenty. " +
        "The corner of c is at 0.8, as for pictures, and t = 1.6. " +
        "Where will the starts come to rest?",
      answers: [
        ["on", "On the circle"],
        ["inside", "Inside it"],
      ],
      reply: (key) =>
        `${key === "inside" ? "Yes, inside." : "Inside it."} Two numbers do not tell how much noise is in ` +
        "them. A place on the circle may still be half noise, and those chances pull to the middle.",
      asked: { ...INITIAL, eta: 0.02 },
    };
  }

  state() {
    return { share: this.share, ...this.facts(), end: this.mine.at(-1) };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(NoClock, element, options, {
    name: "noclock",
    title: "A field with no clock",
    label: "Explorable: starts that go down a field of arrows in the plane, and what stops them",
    ...{ style: STYLE_CLOCK, start: INITIAL, settingsFrom },
  });
}

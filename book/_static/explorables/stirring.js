import { bestFieldOf, legendre, quadrature } from "./bestfield.js";
import {
  clamp,
  colours,
  draggable,
  line,
  nice,
  node,
  numberFrom,
  numbersFrom,
  pen,
  push,
  rgb,
  set,
  size,
  svg,
} from "./common.js";
import { Plane, grip } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Stirring the field. It must teach: walk round a closed loop and add up the climb. With the slope of one
// energy it comes back to nothing; with the best field there is it does not, and what is left is the curl
// inside the loop. Even for a single point, whose arrows all point straight away from it.

const WIDE = 2.4; // the picture shows -WIDE..WIDE both ways
const BETA = 0.5; // of the soft minimum of bowls
const REACH = 2; // how far a bowl is a cone
const SHADE = 9; // the curl at which the colour is full
const A = 0.8;
const SCALE = 4;
const MOON = Array.from({ length: 8 }, (_, i) => (Math.PI * (i + 0.5)) / 8);
export const DATA = {
  one: [[1.2, 0.6]],
  three: [
    [-1, -0.5],
    [1, -0.2],
    [0.2, 1.1],
  ],
  moons: [
    ...MOON.map((t) => [1.1 * Math.cos(t) - 0.5, 1.1 * Math.sin(t) - 0.3]),
    ...MOON.map((t) => [0.5 - 1.1 * Math.cos(t), 0.3 - 1.1 * Math.sin(t)]),
  ],
};
const FIELDS = ["best", "slope"];
const LOOPS = ["circle", "hand"];
const BEAN = [-1.4, -1.1, -0.2, -1.5, 1.2, -1.2, 1.7, -0.2, 1.1, 0.5, 0.1, 0.1, -0.9, 0.6, -1.7, -0.1];
const INITIAL = { data: "three", field: "best", loop: "circle", x: 0.6, y: -1, r: 0.7, hand: BEAN };
const TURNS = 240; // places on a circle
const MOST = 40; // corners of a loop drawn by hand
const FINE = quadrature();
const FAIR = quadrature({ n: 24, floor: 1e-3 });
const ROUGH = quadrature({ n: 16, floor: 1e-3 }); // enough for colours

/** The energy of the slope: the soft minimum of a bowl for each point (Huber's, a cone with a round tip). */
export function energy([z1, z2], points) {
  const bowls = points.map(([x1, x2]) => {
    const far = Math.hypot(z1 - x1, z2 - x2);
    const near = (1 - A) * REACH;
    return far <= near ? (SCALE * far ** 2) / (2 * (1 - A)) : SCALE * REACH * (far - near / 2);
  });
  const least = Math.min(...bowls);
  return least - Math.log(bowls.reduce((sum, b) => sum + Math.exp(BETA * (least - b)), 0)) / BETA;
}

/** Its gradient: the slopes of the bowls, averaged by a softmax. */
export function slope([z1, z2], points) {
  const away = points.map(([x1, x2]) => [z1 - x1, z2 - x2, Math.hypot(z1 - x1, z2 - x2)]);
  const near = (1 - A) * REACH;
  const bowls = away.map(([, , far]) =>
    far <= near ? (SCALE * far ** 2) / (2 * (1 - A)) : SCALE * REACH * (far - near / 2),
  );
  const least = Math.min(...bowls);
  let [sum, s1, s2] = [0, 0, 0];
  away.forEach(([d1, d2, far], i) => {
    const p = Math.exp(BETA * (least - bowls[i]));
    const pull = SCALE * (far <= near ? 1 / (1 - A) : REACH / far);
    sum += p;
    s1 += p * pull * d1;
    s2 += p * pull * d2;
  });
  return [s1 / sum, s2 / sum];
}

const fields = (nodes, turned) =>
  Object.fromEntries(
    Object.entries(DATA).map(([name, points]) => [name, bestFieldOf(points, nodes, turned)]),
  );
const ARROWS = fields(FINE, false);
const [TURNING, TURNING_FAIR, TURNING_ROUGH] = [FINE, FAIR, ROUGH].map((nodes) => fields(nodes, true));

/** The arrow at a place: of the best field, or of the slope. */
export function arrow(place, { field, data }) {
  return field === "slope" ? slope(place, DATA[data]) : ARROWS[data](place).field;
}

/** How much the field turns at a place: d1 f2 - d2 f1. */
export function turning(place, { field, data }, best = TURNING) {
  return field === "slope" ? 0 : best[data](place).curl;
}

const pairs = (list) => Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]);

/** The loop in small pieces, [[place, way], ...], such that the sum of f(place) . way is its integral. */
export function pieces({ loop, x, y, r, hand }) {
  if (loop === "circle") {
    return Array.from({ length: TURNS }, (_, i) => {
      const t = (2 * Math.PI * (i + 0.5)) / TURNS;
      const [c, s] = [Math.cos(t), Math.sin(t)];
      const share = (2 * Math.PI * r) / TURNS;
      return [
        [x + r * c, y + r * s],
        [-s * share, c * share],
      ];
    });
  }
  const corners = pairs(hand);
  return corners.flatMap((from, k) => alongEdge(from, corners[(k + 1) % corners.length]));
}

/** An edge in pieces below 0.04, in each two places of Gauss. */
function alongEdge([a, b], [c, d]) {
  const n = Math.max(1, Math.ceil(Math.hypot(c - a, d - b) / 0.04));
  const way = [(c - a) / (2 * n), (d - b) / (2 * n)];
  return Array.from({ length: 2 * n }, (_, i) => {
    const share = (Math.floor(i / 2) + 0.5 + (i % 2 ? 1 : -1) / (2 * Math.sqrt(3))) / n;
    return [[a + share * (c - a), b + share * (d - b)], way];
  });
}

/** The climb so far at each moment of the walk, from 0 to what is left at its end. */
export function climbs(settings) {
  const heights = [0];
  for (const [place, [w1, w2]] of pieces(settings)) {
    const [f1, f2] = arrow(place, settings);
    heights.push(heights.at(-1) + f1 * w1 + f2 * w2);
  }
  return heights;
}

const ROUND = 120;
const RADII = legendre(40);

/** The curl on one ring inside the circle, for the sum over all: Gauss along the radius, even round it. */
function onRing(settings, [g, weight]) {
  const { x, y, r } = settings;
  const radius = (r * (1 + g)) / 2;
  let sum = 0;
  for (let i = 0; i < ROUND; i++) {
    const t = (2 * Math.PI * i) / ROUND;
    sum += turning([x + radius * Math.cos(t), y + radius * Math.sin(t)], settings, TURNING_FAIR);
  }
  return sum * ((weight * r) / 2) * radius * ((2 * Math.PI) / ROUND);
}

/** The curl inside the circle, added up. */
export function inside(settings) {
  if (settings.field === "slope") return 0;
  return RADII.reduce((sum, ring) => sum + onRing(settings, ring), 0);
}

/** What the walk was like: the ways up and down in all, and what is left. */
export function facts(heights) {
  let [up, down] = [0, 0];
  for (let i = 1; i < heights.length; i++) {
    const step = heights[i] - heights[i - 1];
    if (step > 0) up += step;
    else down -= step;
  }
  return { up, down, left: heights.at(-1) };
}

/** Whether the words speak of the curl inside: of a circle, and where few points make it smooth enough. */
const toldInside = ({ field, loop, data }) => field === "best" && loop === "circle" && data !== "moons";

/** What the picture shows, in words: [lead, rest, kind]. */
export function tell({ up, down, left }, settings, within = inside(settings)) {
  const walk = `Up ${nice(up)}, down ${nice(down)}.`;
  if (settings.field === "slope") {
    return ["Back at the same height.", `${walk} An energy comes back on every loop.`, "good"];
  }
  const stokes = toldInside(settings) ? ` The colour inside adds up to the same: ${nice(within)}.` : "";
  if (Math.abs(left) < 0.05) {
    return ["Nearly the same height.", `${walk} What is left, ${nice(left)}, is small here.${stokes}`, ""];
  }
  const lead = `Back where we were, and ${nice(Math.abs(left))} ${left > 0 ? "higher" : "lower"}.`;
  return [lead, `${walk} So these arrows are the slope of nothing.${stokes}`, "bad"];
}

export function settingsFrom(given) {
  const pick = (list, value, otherwise) => (list.includes(value) ? value : otherwise);
  const list = numbersFrom(given.hand) ?? [];
  const good =
    list.length >= 6 &&
    list.length <= 2 * MOST &&
    list.length % 2 === 0 &&
    list.every((v) => Number.isFinite(v) && Math.abs(v) <= WIDE);
  return {
    data: pick(Object.keys(DATA), given.data, INITIAL.data),
    field: pick(FIELDS, given.field, INITIAL.field),
    loop: pick(LOOPS, given.loop, INITIAL.loop),
    x: numberFrom(given.x, -WIDE, WIDE, INITIAL.x),
    y: numberFrom(given.y, -WIDE, WIDE, INITIAL.y),
    r: numberFrom(given.r, 0.1, 1.5, INITIAL.r),
    hand: good ? [...list] : [...BEAN],
  };
}

/** What the address keeps: corners only where they are shown. */
function shared({ hand, x, y, r, ...rest }) {
  return rest.loop === "hand" ? { ...rest, hand } : { ...rest, x, y, r };
}

const STYLE_STIR = `
.amx-stirring .boards { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1rem;
  align-items: end; }
.amx-stirring .small { font-size: .86rem; color: var(--amx-muted); margin-bottom: .3rem; }
.amx-stirring .plot {
  position: relative; aspect-ratio: 1; overflow: hidden; border: 1px solid var(--amx-line);
  border-radius: 8px;
}
.amx-stirring .plot > * { position: absolute; inset: 0; height: 100%; }
.amx-stirring .plot[data-loop="hand"] svg { cursor: crosshair; touch-action: none; }
.amx-stirring .loop { fill: none; stroke: var(--amx-trajectory); stroke-width: 2.5; }
.amx-stirring .start { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 2; }
.amx-stirring .walker { fill: var(--amx-trajectory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-stirring .datum { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-stirring .centre { cursor: grab; touch-action: none; }
.amx-stirring .centre .dot { fill: var(--amx-paper); stroke: var(--amx-trajectory); stroke-width: 2.5; }
.amx-stirring .height { fill: none; stroke: var(--amx-energy); stroke-width: 2.5; }
.amx-stirring .gap { stroke: var(--amx-wrong); stroke-width: 5; }
.amx-stirring svg text.gaptext { fill: var(--amx-wrong); font-weight: 650; }
@media (max-width: 480px) {
  .amx-stirring .boards { grid-template-columns: minmax(0, 1fr); gap: .6rem; }
}
`;
const TALL = 210; // the gauge, in page pixels
const BRIEF = 3; // milliseconds of sums a frame, while a hand waits

class Stirring extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([-WIDE, WIDE], [-WIDE, WIDE]);
    const label = "Arrows of a field in the plane; colour where they turn";
    this.land = node("canvas", { role: "img", "aria-label": label });
    this.loop = svg("path", { class: "loop" });
    this.start = svg("circle", { class: "start", r: 6 });
    this.walker = svg("circle", { class: "walker", r: 6 });
    this.data = svg("g");
    this.over = svg("svg", {}, this.data, this.loop, this.start, this.walker);
    this.centre = this.handle();
    this.over.append(this.centre.root);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    this.gauge = svg("svg", { role: "img", "aria-label": "The climb along the way so far" });
    const left = node("div", {}, node("p", { class: "small" }, "walk round, against the clock"), this.plot);
    const right = node("div", {}, node("p", { class: "small" }, "what we climbed so far"), this.gauge);
    this.ui.stage.append(node("div", { class: "boards" }, left, right));
    this.byHand();
  }

  /** The middle of the circle, which hands can move. */
  handle() {
    return grip({
      ...{ kind: "centre", label: "Middle of the loop: arrow keys move it", radius: 7, digits: 2 },
      ...{ plane: this.plane, over: this.over },
      at: () => [this.now.x, this.now.y],
      put: ([x, y]) => this.turn({ x, y }),
      go: () => this.life.soon(),
    });
  }

  /** A loop drawn by a finger: its corners, no nearer to one another than a step. */
  byHand() {
    const { now } = this;
    let drawn = null;
    const move = (event) => {
      if (now.loop !== "hand") return;
      const spot = this.plane.at(event, this.over).map((v) => Number(clamp(v, -WIDE, WIDE).toFixed(2)));
      if (event.type === "pointerdown") drawn = [];
      const last = drawn.slice(-2);
      if (last.length && Math.hypot(spot[0] - last[0], spot[1] - last[1]) < 0.12) return;
      if (drawn.length < 2 * MOST) drawn.push(...spot);
      if (drawn.length >= 6) this.turn({ hand: [...drawn] });
    };
    draggable(this.over, move, () => now.loop === "hand" && this.life.soon());
  }

  compute() {
    const { now } = this;
    this.path = pieces(now).map(([place]) => place);
    this.heights = climbs(now);
    this.facts = facts(this.heights);
    const { x, y, r, field, data } = now;
    const disc = `${x} ${y} ${r} ${field} ${data}`;
    if (disc !== this.disc) [this.disc, this.within, this.rings] = [disc, 0, 0];
  }

  /** The curl inside, ring by ring, as far as some milliseconds allow; whether all are added. */
  addRings(milliseconds = Infinity) {
    const began = performance.now();
    if (!toldInside(this.now)) return true;
    while (this.rings < RADII.length && performance.now() - began < milliseconds) {
      this.within += onRing(this.now, RADII[this.rings++]);
    }
    return this.rings === RADII.length;
  }

  /** The whole walk at once; the sum of the colour inside takes some frames. */
  instant() {
    this.share = 1;
    this.gradually(() => this.addRings(BRIEF));
  }

  /** Colours and arrows change only with the field; they are kept as a picture. */
  drawField(look) {
    const { field, data } = this.now;
    const { w, h } = this.plane;
    const context = pen(this.land, w, h);
    const n = 54;
    const { xs, ys } = this.plane.cells(n, n);
    if (this.turned?.key !== `${field} ${data}`) {
      const curls = Float64Array.from({ length: n * n }, (_, p) =>
        turning([xs[p % n], ys[Math.floor(p / n)]], { field, data }, TURNING_ROUGH),
      );
      const { xs: us, ys: vs } = this.plane.cells(15, 15);
      const spots = [...vs].flatMap((v) => [...us].map((u) => [u, v]));
      const arrows = spots.map((spot) => [spot, arrow(spot, { field, data })]);
      this.turned = { key: `${field} ${data}`, curls, arrows };
    }
    this.paint(context, n, look);
    context.strokeStyle = look.ink;
    context.globalAlpha = 0.55;
    context.beginPath();
    for (const [spot, way] of this.turned.arrows) this.stroke(context, spot, way);
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Vermilion where it turns against the clock, grey where with it. */
  paint(context, n, look) {
    const small = set(document.createElement("canvas"), { width: n, height: n });
    const sheet = small.getContext("2d");
    const image = sheet.createImageData(n, n);
    const [left, right, paper] = [look.wrong, look.muted, look.paper].map(rgb);
    this.turned.curls.forEach((curl, p) => {
      const deep = curl > 0 ? left : right;
      const part = 0.75 * Math.min(1, Math.abs(curl) / SHADE);
      for (let d = 0; d < 3; d++) image.data[4 * p + d] = paper[d] + part * (deep[d] - paper[d]);
      image.data[4 * p + 3] = 255;
    });
    sheet.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(small, 0, 0, this.plane.w, this.plane.h);
  }

  /** An arrow down the field, as samples go; its length says how steep it is. */
  stroke(context, place, [f1, f2]) {
    const [x, y] = this.plane.to(place);
    const [u, v] = [(-f1 * this.plane.w) / 620, (f2 * this.plane.w) / 620];
    const far = Math.hypot(u, v);
    if (far < 0.5) return;
    const [a, b] = [u / far, v / far];
    context.moveTo(x - u, y - v);
    context.lineTo(x + u, y + v);
    context.moveTo(x + u - 4 * a - 2.5 * b, y + v - 4 * b + 2.5 * a);
    context.lineTo(x + u, y + v);
    context.lineTo(x + u - 4 * a + 2.5 * b, y + v - 4 * b - 2.5 * a);
  }

  draw() {
    if (!this.plane.resize(this.plot)) return;
    const { now } = this;
    const { w, h } = this.plane;
    this.plot.dataset.loop = now.loop;
    this.over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    this.drawField(colours(this.ui.root));
    const mark = ([cx, cy]) => svg("circle", { class: "datum", cx, cy, r: 5 });
    this.data.replaceChildren(...DATA[now.data].map((x) => mark(this.plane.to(x))));
    this.loop.setAttribute("d", `${line(this.path.map((x) => this.plane.to(x)))}Z`);
    this.centre.root.style.visibility = now.loop === "circle" ? "visible" : "hidden";
    this.centre.show(this.plane, [now.x, now.y]);
    this.frame();
  }

  /** What moves during the film: the walker and the gauge. */
  frame() {
    const put = (made, [cx, cy]) => set(made, { cx, cy });
    const at = Math.round(this.share * (this.heights.length - 1));
    put(this.start, this.plane.to(this.path[0]));
    put(this.walker, this.plane.to(this.path[at % this.path.length]));
    this.drawGauge(at);
  }

  drawGauge(at) {
    const wide = this.gauge.parentElement.clientWidth;
    if (!wide) return;
    size(this.gauge, wide, TALL);
    const reach = Math.max(1, ...this.heights.map(Math.abs)) * 1.15;
    const x = (i) => 8 + (i / (this.heights.length - 1)) * (wide - 24);
    const y = (v) => TALL / 2 - (v / reach) * (TALL / 2 - 12);
    const shown = this.heights.slice(0, at + 1).map((v, i) => [x(i), y(v)]);
    const parts = [
      svg("path", { class: "axis", d: `M8,${y(0)}H${wide - 16}` }),
      svg("path", { class: "height", d: line(shown) }),
      svg("text", { x: 8, y: TALL - 4 }, "start"),
      svg("text", { x: wide - 16, y: TALL - 4, class: "end" }, "back"),
    ];
    if (at === this.heights.length - 1) {
      const { left } = this.facts;
      const low = left > 0 ? y(0) + 18 : y(0) - 10;
      parts.push(svg("path", { class: "gap", d: `M${x(at)},${y(0)}V${y(left)}` }));
      parts.push(svg("text", { x: wide - 16, y: low, class: "end gaptext" }, `left: ${nice(left)}`));
    }
    this.gauge.replaceChildren(...parts);
  }

  told() {
    this.addRings();
    return tell(this.facts, this.now, this.within);
  }

  pace() {
    return 3200;
  }

  controls() {
    const { ui } = this;
    const field = this.pick("field", "the arrows", [
      ["best", "best field there is"],
      ["slope", "one energy"],
    ]);
    const data = this.pick("data", "the data", [
      ["one", "1 point"],
      ["three", "3"],
      ["moons", "2 moons"],
    ]);
    const loop = this.pick("loop", "the loop", [
      ["circle", "a circle"],
      ["hand", "by hand"],
    ]);
    const radius = this.slide("r", {
      label: "radius of the circle",
      ...{ min: 0.1, max: 1.5, step: 0.05, format: (v) => nice(v) },
      input: (r) => this.turn({ r, loop: "circle" }),
    });
    ui.controls.append(field, data, loop, radius);
    ui.row.append(push("Walk", () => this.play()));
    this.visits("Drag the loop, or draw one by hand. Colour: where arrows turn. Or try", [
      ["one point", { data: "one", x: 0.1, y: 0.9, r: 0.8 }],
      ["round everything", { x: 0, y: 0, r: 1.5 }],
      ["one energy", { field: "slope" }],
    ]);
  }

  question() {
    return {
      asked: { ...INITIAL, data: "one", x: 0.1, y: 0.9, r: 0.8 },
      question:
        "A single point of data. Every arrow of the best field lies on a straight line through it. Walk " +
        "round a loop beside it: does the climb come back to zero?",
      answers: [
        ["yes", "Of course"],
        ["no", "No"],
      ],
      reply: (key) =>
        `${key === "no" ? "No, it does not." : "It does not."} All arrows point the right way, but at ` +
        "equal distance they are not equally strong: on one side a place like this is deeper in the noise.",
    };
  }

  state() {
    return { share: this.share, ...this.facts, inside: this.within };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Stirring, element, options, {
    name: "stirring",
    title: "Stirring the field",
    label: "Explorable: arrows in the plane, a loop to walk round, and a gauge of the climb",
    ...{ style: STYLE_STIR, start: INITIAL, settingsFrom, shared },
  });
}

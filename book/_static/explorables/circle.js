import { clamp, colours, line, nice, node, numberFrom, pen, push, random, slider, svg } from "./common.js";
import { Plane, contours, field, heat } from "./landscape.js";
import { Explorable, explorable } from "./life.js";

// Memorise, misremember, generalise. It must teach: merging is about walls and noise, not about numbers.
// K points on a circle dig K bowls; turn the noise up and they merge, by twos, into stretches, into a
// ring, into one bowl. What counts is K times the noise.
//
//   h(x) = beta E(x) = -log sum_mu exp(-|x - xi_mu|^2 / (2 sigma^2)),  beta = 1 / sigma^2
//   walls below 1 hold nothing: join; one point in a valley is memorised, several are spurious,
//   a floor longer than two joined points can make is generalised.

const SIGMAS = [0.03, 1];
const COUNTS = [1, 120];
// what the slider has
const LIST = [...Array.from({ length: 20 }, (_, i) => i + 1), 25, 30, 40, 50, 60, 80, 100, 120];
const INITIAL = { k: 9, sigma: 0.12, seed: 5, spread: "random" };
const PLACES = 360; // round the ring
const [LOW, HIGH] = [0.05, 2];
const BARRIER = 1;
const BELLS = 2.5;
export const NAMES = ["memorised", "spurious", "generalised"];
const LEVELS = Array.from({ length: 8 }, (_, i) => ((i + 1) / 9) ** 2);

/** The angles of K points: evenly spaced, or at random by a seed. */
export function angles({ k, seed, spread }) {
  const dice = random(seed);
  const at = (i) => (spread === "even" ? i / k + 0.25 : dice());
  return Array.from({ length: k }, (_, i) => 2 * Math.PI * at(i));
}

const CIRCLES = new WeakMap(); // the cosines and sines of lists of angles

function circleOf(turns) {
  if (!CIRCLES.has(turns)) {
    const [c, s] = [Math.cos, Math.sin].map((f) => Float64Array.from(turns, f));
    CIRCLES.set(turns, { c, s, dots: new Float64Array(turns.length) });
  }
  return CIRCLES.get(turns);
}

/** beta times the places of the points along a place, into `dots`; returns the most. */
function along({ c, s, dots }, x, y, beta) {
  let top = -Infinity;
  for (let i = 0; i < dots.length; i++) {
    dots[i] = beta * (x * c[i] + y * s[i]);
    if (dots[i] > top) top = dots[i];
  }
  return top;
}

/** [energy, [x, y] of the weighted mean, [xx, xy, yy] of the curvature] at a place. */
export function ground([x, y], turns, sigma) {
  const beta = sigma ** -2;
  const circle = circleOf(turns);
  const { c, s, dots } = circle;
  const top = along(circle, x, y, beta);
  let [sum, mx, my, xx, xy, yy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < dots.length; i++) {
    if (dots[i] - top < -40) continue; // less than rounding
    const w = Math.exp(dots[i] - top);
    sum += w;
    mx += w * c[i];
    my += w * s[i];
    xx += w * c[i] * c[i];
    xy += w * c[i] * s[i];
    yy += w * s[i] * s[i];
  }
  [mx, my] = [mx / sum, my / sum];
  const bend = [
    1 - beta * (xx / sum - mx * mx),
    -beta * (xy / sum - mx * my),
    1 - beta * (yy / sum - my * my),
  ];
  return [0.5 * (x * x + y * y + 1) - (top + Math.log(sum)) / beta, [mx, my], bend];
}

/** The energy alone, at n by n places. */
function heights({ xs, ys }, turns, sigma) {
  const beta = sigma ** -2;
  const circle = circleOf(turns);
  const { dots } = circle;
  const found = new Float64Array(xs.length * ys.length);
  for (let p = 0; p < found.length; p++) {
    const [x, y] = [xs[p % xs.length], ys[Math.floor(p / xs.length)]];
    const top = along(circle, x, y, beta);
    let sum = 0;
    for (let i = 0; i < dots.length; i++) if (dots[i] - top > -20) sum += Math.exp(dots[i] - top);
    found[p] = 0.5 * (x * x + y * y + 1) - (top + Math.log(sum)) / beta;
  }
  return found;
}

/** Where on a ray the pull turns: halves at first, then Newton's steps; and the sum of the weights there. */
function turningPoint(cosines, most, beta) {
  let [inner, outer, r, sum] = [LOW, HIGH, 0.5 * (LOW + HIGH), 0];
  for (let t = 0; t < 40; t++) {
    let [mean, square] = [0, 0];
    sum = 0;
    for (let mu = 0; mu < cosines.length; mu++) {
      const low = beta * r * (cosines[mu] - most);
      if (low < -40) continue; // less than rounding
      const w = Math.exp(low);
      sum += w;
      mean += w * cosines[mu];
      square += w * cosines[mu] * cosines[mu];
    }
    mean /= sum;
    if (mean > r) inner = r;
    else if (r === LOW) break;
    else outer = r;
    const newton = (mean - r) / (1 - beta * (square / sum - mean * mean));
    const inside = r + newton > inner && r + newton < outer;
    if (t >= 8 && inside && Math.abs(newton) < 1e-11) break;
    if (t === 8 && inner === LOW)
      r = LOW; // the pull may turn nowhere on this ray
    else r = t >= 8 && inside ? r + newton : 0.5 * (inner + outer);
  }
  return [r, sum];
}

/** Along each ray the place where the pull turns from outwards to inwards: its radius, and h there. */
export function valley(turns, sigma, n = PLACES) {
  const beta = sigma ** -2;
  const radius = new Float64Array(n);
  const height = new Float64Array(n);
  const cosines = new Float64Array(turns.length);
  for (let i = 0; i < n; i++) {
    let most = -1;
    turns.forEach((a, mu) => {
      cosines[mu] = Math.cos((2 * Math.PI * i) / n - a);
      if (cosines[mu] > most) most = cosines[mu];
    });
    const [r, sum] = turningPoint(cosines, most, beta);
    radius[i] = r;
    height[i] = beta * (0.5 * (r * r + 1) - r * most) - Math.log(sum);
  }
  return { radius, height };
}

/** First places of all floors round a closed curve. */
function floors(h) {
  const n = h.length;
  const found = [];
  for (let i = 0; i < n; i++) {
    if (h[i] >= h[(i + n - 1) % n]) continue;
    let j = i;
    while (h[(j + 1) % n] === h[i]) j++;
    if (h[(j + 1) % n] > h[i]) found.push(i);
  }
  return found;
}

/** The place of the highest value on the way from a to b, which may be once round. */
function highest(h, a, b) {
  const n = h.length;
  const span = (b - a + n) % n || n;
  let best = a;
  for (let j = a; j < a + span; j++) if (h[j % n] > h[best % n]) best = j;
  return best % n;
}

/** Cut a closed curve at its passes: bottoms, the well of each place, walls. */
export function wells(h) {
  const bottoms = floors(h);
  const n = h.length;
  const passes = bottoms.map((b, i) => highest(h, b, bottoms[(i + 1) % bottoms.length]));
  const well = new Array(n).fill(-1);
  const walls = bottoms.map((b, i) => {
    const [left, right] = [passes[(i + passes.length - 1) % passes.length], passes[i]];
    const span = (right - left + n) % n || n;
    for (let j = left; j < left + span; j++) well[j % n] = i;
    return Math.min(h[left], h[right]) - h[b];
  });
  return { bottoms, well, walls };
}

/** Join wells whose wall is below the barrier to their neighbour, the shallowest first. */
export function joined(h, barrier = BARRIER) {
  const first = wells(h);
  let bottoms = [...first.bottoms];
  let well = [...first.well];
  let walls = first.walls;
  for (;;) {
    const count = bottoms.length;
    const ends = [...bottoms.slice(1), bottoms[0]];
    const passes = bottoms.map((b, i) => h[highest(h, b, ends[i])]);
    walls = bottoms.map((b, i) => Math.min(passes[(i + count - 1) % count], passes[i]) - h[b]);
    const low = Math.min(...walls);
    if (count < 2 || low >= barrier) return { bottoms, well, walls };
    const i = walls.indexOf(low);
    const into = (i + (passes[i] <= passes[(i + count - 1) % count] ? 1 : count - 1)) % count;
    well = well.map((w) => (w === i ? into : w)).map((w) => (w > i ? w - 1 : w));
    bottoms = bottoms.filter((_, j) => j !== i);
  }
}

const placeOf = (angle, n) => ((Math.round((angle / (2 * Math.PI)) * n) % n) + n) % n;

/** What each point has become: 0 memorised, 1 spurious, 2 generalised; and the joined wells. */
export function labels(turns, sigma, h) {
  const n = h.length;
  const found = joined(h);
  if (!found.bottoms.length) return { kinds: turns.map(() => 2), found };
  const held = found.bottoms.map(() => 0);
  const floor = found.bottoms.map(() => 0);
  for (const a of new Set(turns)) held[found.well[placeOf(a, n)]]++;
  found.well.forEach((w, i) => (floor[w] += h[i] < h[found.bottoms[w]] + BARRIER ? (2 * Math.PI) / n : 0));
  const longest = BELLS * 2 * sigma * Math.sqrt(2 * BARRIER);
  const kind = held.map((count, w) => (count === 1 ? 0 : floor[w] > longest ? 2 : 1));
  return { kinds: turns.map((a) => kind[found.well[placeOf(a, n)]]), found };
}

/** Go down from a place: mean shift, and Newton's steps in a bowl; null if it ends in no bowl. */
export function settle(x, turns, sigma) {
  for (let t = 0; t < 3000; t++) {
    const [, to, [xx, xy, yy]] = ground(x, turns, sigma);
    const [gx, gy] = [x[0] - to[0], x[1] - to[1]];
    const det = xx * yy - xy * xy;
    if (Math.hypot(gx, gy) < 1e-11) return xx > 0 && det > 1e-9 ? x : null;
    const newton = [(yy * gx - xy * gy) / det, (xx * gy - xy * gx) / det];
    const near = xx > 0 && det > 1e-9 && Math.hypot(...newton) < 0.02;
    x = near ? [x[0] - newton[0], x[1] - newton[1]] : to;
  }
  return null;
}

/** The valleys of the plane, from the bottoms round the ring and from the centre. */
export function valleys(turns, sigma, { radius, height }) {
  const n = height.length;
  const starts = wells(height).bottoms.map((i) => {
    const a = (2 * Math.PI * i) / n;
    return [radius[i] * Math.cos(a), radius[i] * Math.sin(a)];
  });
  const found = [];
  for (const start of [...starts, [1e-3, 1e-3]]) {
    const x = settle(start, turns, sigma);
    if (x && !found.some((y) => Math.hypot(x[0] - y[0], x[1] - y[1]) < 1e-4)) found.push(x);
  }
  return found;
}

/** Everything that the picture shows about some settings. */
export function look(settings) {
  const turns = angles(settings);
  const way = valley(turns, settings.sigma);
  const { kinds, found } = labels(turns, settings.sigma, way.height);
  const shares = NAMES.map((_, kind) => kinds.filter((k) => k === kind).length / kinds.length);
  return { turns, way, kinds, found, shares, bowls: valleys(turns, settings.sigma, way) };
}

/** Where the slider stands for K points: at the nearest number that it has. */
function spot(k) {
  return LIST.reduce((best, v, i) => (Math.abs(v - k) < Math.abs(LIST[best] - k) ? i : best), 0);
}

export function settingsFrom(given) {
  return {
    k: LIST[spot(numberFrom(given.k, ...COUNTS, INITIAL.k))],
    sigma: numberFrom(given.sigma, ...SIGMAS, INITIAL.sigma),
    seed: Math.round(numberFrom(given.seed, 0, 9999, INITIAL.seed)),
    spread: given.spread === "even" ? "even" : "random",
  };
}

const counted = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)} %`;

/** What has become of the points, in words: [lead, rest, kind]. */
export function tell({ shares, bowls }, { k, sigma }) {
  const lead = `${counted(k, "point")}, ${counted(bowls.length, "valley")}.`;
  if (bowls.length === 1 && k > 2 && sigma > 0.6) {
    const rest = "The noise is as wide as the circle. One bowl is left, in the middle of all points.";
    return [lead, rest, "bad"];
  }
  if (shares[0] === 1) return [lead, "Every point lies in a valley of its own: memorised.", "good"];
  if (shares[2] > 0.9) {
    const rest = bowls.length > 1 ? "There are valleys, but noise climbs the walls between them." : "";
    return [lead, `A stretch of line with no place of its own for any point: generalised. ${rest}`, ""];
  }
  const parts = NAMES.map((name, i) => [shares[i], name]).filter(([share]) => share > 0);
  const said = parts.map(([share, name]) => `${percent(share)} ${name}`).join(", ");
  const rest = shares[1] > 0 ? "Points that lie close share a valley between them." : "";
  return [lead, `Of the points are ${said}. ${rest}`, ""];
}

const STYLE_CIRCLE = `
.amx-circle .board {
  display: grid; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); gap: 1.1rem;
  align-items: start;
}
.amx-circle .plot {
  position: relative; aspect-ratio: 1; overflow: hidden; border: 1px solid var(--amx-line);
  border-radius: 8px;
}
.amx-circle .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-circle .valley { fill: none; stroke: var(--amx-ink); stroke-width: 1.6; }
.amx-circle .k0 { fill: var(--amx-memory); }
.amx-circle .k1 { fill: var(--amx-wrong); }
.amx-circle .k2 { fill: var(--amx-energy); }
.amx-circle .dots circle { stroke: var(--amx-paper); stroke-width: 1; }
.amx-circle .profile { fill: none; stroke: var(--amx-energy); stroke-width: 1.8; }
.amx-circle .rule { stroke: var(--amx-muted); stroke-dasharray: 4 3; fill: none; }
.amx-circle .frame { stroke: var(--amx-line); fill: none; }
.amx-circle .here { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-circle .small { font-size: .86rem; color: var(--amx-muted); margin: .1rem 0 .2rem; }
.amx-circle .bars {
  display: grid; grid-template-columns: auto 1fr 3rem; gap: .25rem .5rem; align-items: center;
  margin-top: .5rem; font-size: .9rem;
}
.amx-circle .bars u {
  display: block; height: 10px; border-radius: 5px; background: var(--amx-soft); text-decoration: none;
}
.amx-circle .bars i { display: block; height: 100%; border-radius: 5px; }
.amx-circle .bars .b0 { background: var(--amx-memory); }
.amx-circle .bars .b1 { background: var(--amx-wrong); }
.amx-circle .bars .b2 { background: var(--amx-energy); }
.amx-circle .bars em { font-style: normal; text-align: right; font-variant-numeric: tabular-nums; }
.amx-circle text { font-size: 11px; fill: var(--amx-muted); }
@media (max-width: 560px) { .amx-circle .board { grid-template-columns: minmax(0, 1fr); } }
`;
const [WIDE, TALL] = [300, 110]; // of the two small plots

class Circle extends Explorable {
  constructor(life) {
    super(life);
    this.plane = new Plane([-1.45, 1.45], [-1.45, 1.45]);
    const label = "Energy of the points on the circle, darker where lower; rings mark its valleys";
    this.land = node("canvas", { role: "img", "aria-label": label });
    this.rings = svg("g");
    this.dots = svg("g", { class: "dots" });
    this.over = svg("svg", {}, this.rings, this.dots);
    this.plot = node("div", { class: "plot" }, this.land, this.over);
    life.ui.stage.append(node("div", { class: "board" }, this.plot, this.side()));
  }

  side() {
    this.profile = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img" });
    this.profile.setAttribute("aria-label", "Height of the valley's floor, once round the circle");
    this.map = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img" });
    this.map.setAttribute("aria-label", "Where these settings lie in the plane of points and noise");
    const bars = node("div", { class: "bars", "aria-hidden": "true" });
    this.rows = NAMES.map((name, i) => {
      const [bar, share] = [node("i", { class: `b${i}` }), node("em")];
      bars.append(node("span", {}, name), node("u", {}, bar), share);
      return { bar, share };
    });
    const small = (text) => node("p", { class: "small" }, text);
    return node(
      "div",
      {},
      small("height of the floor, once round; dashed, the wall that noise climbs"),
      this.profile,
      small("noise (up) against points; you are here"),
      this.map,
      bars,
    );
  }

  /** The noise falls from as wide as the circle to what is set, and the bowl breaks up. */
  seek(t) {
    const { now } = this;
    const sigma = t === 1 ? now.sigma : SIGMAS[1] * (now.sigma / SIGMAS[1]) ** t;
    this.shown = { ...now, sigma };
    this.found = look(this.shown);
  }

  draw() {
    if (!this.plane.resize(this.plot)) return;
    const { ui, plane, found } = this;
    const hues = colours(ui.root);
    const cells = 64;
    const values = heights(plane.cells(cells, cells), found.turns, this.shown.sigma);
    const grid = field(values, cells, cells);
    grid.high = Math.min(grid.high, grid.low + 0.5);
    const context = pen(this.land, plane.w, plane.h);
    const frame = { w: plane.w, h: plane.h };
    const depth = (share) => 0.85 * (1 - share) ** 2;
    heat(context, grid, { ...frame, colour: hues.energy, paper: hues.paper, depth });
    context.strokeStyle = hues.muted;
    context.globalAlpha = 0.35;
    contours(
      context,
      grid,
      LEVELS.map((l) => grid.low + l * (grid.high - grid.low)),
      frame,
    );
    context.globalAlpha = 1;
    this.over.setAttribute("viewBox", `0 0 ${plane.w} ${plane.h}`);
    this.rings.replaceChildren(...found.bowls.map((x) => this.mark(x, 9, "valley")));
    const radius = found.turns.length > 40 ? 3 : 5;
    const spots = found.turns.map((a, i) =>
      this.mark([Math.cos(a), Math.sin(a)], radius, `k${found.kinds[i]}`),
    );
    this.dots.replaceChildren(...spots);
    this.drawProfile();
    this.drawMap();
    this.rows.forEach(({ bar, share }, i) => {
      bar.style.width = `${(100 * found.shares[i]).toFixed(1)}%`;
      share.textContent = percent(found.shares[i]);
    });
  }

  mark(place, r, kind) {
    const [cx, cy] = this.plane.to(place);
    return svg("circle", { class: kind, cx: cx.toFixed(1), cy: cy.toFixed(1), r });
  }

  drawProfile() {
    const { way, turns, kinds } = this.found;
    const low = Math.min(...way.height);
    const top = clamp(Math.max(...way.height) - low, 2, 8);
    const sx = (share) => 4 + share * (WIDE - 8);
    const sy = (h) => 88 - 80 * Math.min(1, (h - low) / top);
    const path = Array.from(way.height, (h, i) => [sx(i / way.height.length), sy(h)]);
    const ticks = turns.map((a, i) => {
      const share = (((a / (2 * Math.PI)) % 1) + 1) % 1;
      return svg("circle", { class: `k${kinds[i]}`, cx: sx(share).toFixed(1), cy: 99, r: 3 });
    });
    this.profile.replaceChildren(
      svg("path", { class: "frame", d: `M4,88H${WIDE - 4}` }),
      svg("path", { class: "rule", d: `M4,${sy(low + 1).toFixed(1)}H${WIDE - 4}` }),
      svg("path", { class: "profile", d: line(path) }),
      ...ticks,
    );
  }

  /** Both axes by ratio: where the product of the two is one number is a straight line. */
  drawMap() {
    const { k, sigma } = this.shown;
    const sx = (v) => 4 + (Math.log(v / COUNTS[0]) / Math.log(COUNTS[1] / COUNTS[0])) * (WIDE - 8);
    const sy = (v) => 104 - (Math.log(v / SIGMAS[0]) / Math.log(SIGMAS[1] / SIGMAS[0])) * 98;
    const border = (product) => {
      const ks = Array.from({ length: 60 }, (_, i) => COUNTS[1] ** (i / 59));
      const inside = ks.map((n) => [n, product / n]).filter(([, s]) => s >= SIGMAS[0] && s <= Math.SQRT1_2);
      return line(inside.map(([n, s]) => [sx(n), sy(s)]));
    };
    const word = (text, x, y) => svg("text", { x, y }, text);
    this.map.replaceChildren(
      svg("rect", { class: "frame", x: 4, y: 6, width: WIDE - 8, height: 98 }),
      svg("path", { class: "rule", d: `M4,${sy(Math.SQRT1_2).toFixed(1)}H${WIDE - 4}` }),
      svg("path", { class: "rule", d: border(0.59) }),
      svg("path", { class: "rule", d: border(1.77) }),
      word("memorised", 12, 92),
      word("generalised", 212, 44),
      word("one bowl", 12, 16),
      svg("circle", { class: "here", cx: sx(k).toFixed(1), cy: sy(sigma).toFixed(1), r: 6 }),
    );
  }

  told() {
    return tell(this.found, this.now);
  }

  /** The slider of the count goes by its place in the list of counts. */
  showHands() {
    super.showHands();
    this.count.show(spot(this.now.k));
  }

  controls() {
    const { ui } = this;
    this.count = slider({
      name: "k",
      label: "points K",
      ...{ min: 0, max: LIST.length - 1, step: 1, value: spot(this.now.k), format: (i) => String(LIST[i]) },
      input: (i) => this.turn({ k: LIST[i] }),
    });
    const width = this.slide("sigma", {
      label: "width σ of the noise (1: as wide as the circle)",
      ...{ min: SIGMAS[0], max: SIGMAS[1], log: true, format: (v) => nice(v, 3) },
    });
    const lie = this.pick("spread", "points lie", [
      ["random", "at random"],
      ["even", "evenly"],
    ]);
    const others = () => this.turn({ seed: (this.now.seed + 1) % 10000, spread: "random" });
    ui.controls.append(this.count.root, width);
    ui.row.append(
      lie,
      push("Other points", others),
      push("Let the noise fall", () => this.play()),
    );
    this.visits("Or try", [
      ["three points, four valleys", { k: 3, spread: "even", sigma: 0.722 }],
      ["walls that hold nothing", { k: 30, spread: "even", sigma: 0.1 }],
      ["a hundred points, a dozen valleys", { k: 100, sigma: 0.1 }],
    ]);
  }

  question() {
    const why =
      "They stop at about 1.2/σ, here a dozen: valleys are where the crowd happens to be denser, and how " +
      "many such places there are depends on the noise alone.";
    return {
      question: "Nine random points have a few valleys. How many will a hundred have, at noise 0.1?",
      answers: [
        ["hundred", "About a hundred"],
        ["dozen", "About a dozen"],
        ["one", "One ring, no valley"],
      ],
      reply: (key) => `${key === "dozen" ? "Yes, a dozen." : "A dozen."} ${why}`,
      asked: { ...INITIAL, sigma: 0.1 },
      answer: (done) => this.vary((t) => (this.now.k = LIST[spot(9 * (100 / 9) ** t)]), done),
    };
  }

  state() {
    return { shares: this.found.shares, valleys: this.found.bowls.length, sigma: this.shown.sigma };
  }
}

/** Put the explorable into `element`; returns its handle. */
export function mount(element, options = {}) {
  return explorable(Circle, element, options, {
    name: "circle",
    title: "Memorise, misremember, generalise",
    label: "Explorable: points on a circle and the valleys of their energy at some noise",
    ...{ style: STYLE_CIRCLE, start: INITIAL, settingsFrom },
  });
}

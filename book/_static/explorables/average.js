import { arrows, clamp, colours, draggable, explorable, nice, node, numberFrom, pen, random, rgb, set, slider, svg, tries } from "./common.js";

// From average to memory. It must teach: between one average of everything and single memories
// lies a middle in which clusters are remembered and their members are not; beta decides.
//
//   E(x) = -(1/beta) log sum_mu exp(-beta/2 |x - xi_mu|^2)
//   one step of descent with step size 1:   x <- softmax_mu(-beta/2 |x - xi_mu|^2) Xi

const WIDE = 1.5; // the picture shows -WIDE..WIDE by -TALL..TALL
const TALL = 1.1;
const NAMES = "ABCDEF";
const TRIO = [90, 210, 330].map((angle) => [
  Number((-0.8 + 0.3 * Math.cos((angle * Math.PI) / 180)).toFixed(3)),
  Number((0.3 + 0.3 * Math.sin((angle * Math.PI) / 180)).toFixed(3)),
]);
const INITIAL = { beta: 60, q: [-0.2, -0.25], m: [...TRIO, [0.52, 0.62], [0.92, 0.38], [0.2, -0.72]] };
const BETAS = [0.5, 100];

/** The weights with which the memories pull at x: softmax of -beta/2 |x - xi|^2. */
export function weights(x, memories, beta) {
  const exponents = memories.map((m) => -0.5 * beta * ((x[0] - m[0]) ** 2 + (x[1] - m[1]) ** 2));
  const top = Math.max(...exponents);
  const raw = exponents.map((e) => Math.exp(e - top));
  const sum = raw.reduce((a, b) => a + b, 0);
  return raw.map((r) => r / sum);
}

/** The energy at x; the largest exponent is taken out of the sum. */
export function energy(x, memories, beta) {
  let top = -Infinity;
  const exponents = memories.map((m) => {
    const e = -0.5 * beta * ((x[0] - m[0]) ** 2 + (x[1] - m[1]) ** 2);
    top = Math.max(top, e);
    return e;
  });
  let sum = 0;
  for (const e of exponents) sum += Math.exp(e - top);
  return -(top + Math.log(sum)) / beta;
}

/** One closed-form step: the mean of the memories under their weights at x. */
export function step(x, memories, beta) {
  const w = weights(x, memories, beta);
  return [0, 1].map((d) => w.reduce((sum, wi, i) => sum + wi * memories[i][d], 0));
}

/** dE/dx = x - step(x). */
export function gradient(x, memories, beta) {
  const to = step(x, memories, beta);
  return [x[0] - to[0], x[1] - to[1]];
}

/** Slope and second derivatives [gx, gy, xx, xy, yy] at x in one pass: identity minus beta times the spread of the pull. */
function local(x, memories, beta) {
  const w = weights(x, memories, beta);
  let [cx, cy, xx, xy, yy] = [0, 0, 0, 0, 0];
  for (let i = 0; i < w.length; i++) {
    cx += w[i] * memories[i][0];
    cy += w[i] * memories[i][1];
  }
  for (let i = 0; i < w.length; i++) {
    const [dx, dy] = [memories[i][0] - cx, memories[i][1] - cy];
    xx += w[i] * dx * dx;
    xy += w[i] * dx * dy;
    yy += w[i] * dy * dy;
  }
  return [x[0] - cx, x[1] - cy, 1 - beta * xx, -beta * xy, 1 - beta * yy];
}

/** The second derivatives [xx, xy, yy] of the energy. */
export function curvature(x, memories, beta) {
  return local(x, memories, beta).slice(2);
}

function bowl([xx, xy, yy]) {
  return xx > 0 && xx * yy - xy * xy > 1e-9;
}

/** Follow steps from x until they stop; where the ground is a bowl already, Newton's steps. */
export function settle(x, memories, beta, { steps = 400, tolerance = 1e-10 } = {}) {
  let here = local(x, memories, beta);
  for (let t = 0; t < steps; t++) {
    const [gx, gy, xx, xy, yy] = here;
    const size = Math.hypot(gx, gy);
    if (size < tolerance) break;
    const det = xx * yy - xy * xy;
    const newton = [(yy * gx - xy * gy) / det, (xx * gy - xy * gx) / det];
    if (xx > 0 && det > 1e-6 && Math.hypot(...newton) < 0.05) {
      const next = [x[0] - newton[0], x[1] - newton[1]];
      const there = local(next, memories, beta);
      if (Math.hypot(there[0], there[1]) < 0.5 * size) {
        [x, here] = [next, there];
        continue;
      }
    }
    x = [x[0] - gx, x[1] - gy];
    here = local(x, memories, beta);
  }
  return x;
}

/** All valleys: [{x, weights}], from every memory and the middles of pairs, of trios and of all. */
export function valleys(memories, beta) {
  const middle = (list) => [0, 1].map((d) => list.reduce((sum, m) => sum + m[d], 0) / list.length);
  const starts = [...memories, middle(memories)];
  for (let i = 0; i < memories.length; i++) {
    for (let j = i + 1; j < memories.length; j++) {
      starts.push(middle([memories[i], memories[j]]));
      for (let k = j + 1; k < memories.length; k++) starts.push(middle([memories[i], memories[j], memories[k]]));
    }
  }
  const found = [];
  for (const start of starts) {
    const x = settle(start, memories, beta);
    if (Math.hypot(...gradient(x, memories, beta)) > 1e-9) continue; // ground so flat that it is no valley yet
    if (!bowl(curvature(x, memories, beta))) continue;
    if (found.some((v) => Math.hypot(v.x[0] - x[0], v.x[1] - x[1]) < 1e-3)) continue;
    found.push({ x, weights: weights(x, memories, beta) });
  }
  return found;
}

/** What kind of memory this is: "average", "metastable", "single" or "crowded". */
export function regime(found, count) {
  if (found.length > count) return "crowded";
  if (found.length === 1) return "average";
  const owners = new Set(found.map((v) => v.weights.indexOf(Math.max(...v.weights))));
  const alone = found.every((v) => Math.max(...v.weights) > 0.5);
  return owners.size === count && alone ? "single" : "metastable";
}

const join = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
const numeral = (n) => ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"][n] ?? String(n);

/** Whose valley it is: the letters of the memories that hold at least a tenth of it. */
export function members(valley) {
  return [...NAMES].filter((_, i) => (valley.weights[i] ?? 0) >= 0.1);
}

/** Where a valley lies, in words. */
function placeOf(valley) {
  const most = Math.max(...valley.weights);
  const owner = NAMES[valley.weights.indexOf(most)];
  if (most > 0.97) return `${owner} itself`;
  return most > 0.6 ? `beside ${owner}` : `the average of ${members(valley).join("+")}`;
}

/** The regime's name, and what is remembered, in words: [lead, rest, kind]. */
export function tell(found, memories, beta) {
  const kind = regime(found, memories.length);
  const groups = found.map(members).sort((a, b) => b.length - a.length);
  const places = [...found].sort((a, b) => members(b).length - members(a).length).map(placeOf);
  const listed = places.length > 2 ? `${places.slice(0, -1).join(", ")}, and ${places.at(-1)}` : places.join(" and ");
  if (kind === "average") return ["One average.", `Every dot ends at the same place, near the mean of ${groups[0].length === memories.length ? `all ${numeral(memories.length)} memories` : join(groups[0])}. The question does not matter any more.`, ""];
  const close = found.every((v) => Math.max(...v.weights) > 0.97);
  if (kind === "single") return [`${numeral(memories.length).replace(/^./, (c) => c.toUpperCase())} single memories.`, close ? "Every dot ends at one of them, and a step or two is enough." : "Every dot ends beside one of them, pulled a little towards its neighbours.", "good"];
  if (kind === "crowded") return ["More valleys than memories.", `${found.length} valleys for ${memories.length} memories: ${listed}. The middle of a triangle can be a valley of its own.`, "bad"];
  return [`Metastable: ${numeral(found.length)} clusters.`, `The dots end at ${listed}. An average is remembered well, and nobody stored it.`, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = INITIAL) {
  const read = (value) => (value == null ? null : (Array.isArray(value) ? value.flat() : String(value).split(",")).map(Number));
  const pairs = (list) => Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]);
  const inside = (list) => list.every((v, i) => Number.isFinite(v) && Math.abs(v) <= (i % 2 ? TALL : WIDE));
  const [m, q] = [read(given.m), read(given.q)];
  return {
    beta: numberFrom(given.beta, ...BETAS, otherwise.beta),
    q: q && q.length === 2 && inside(q) ? q : [...otherwise.q],
    m: m && m.length === 12 && inside(m) ? pairs(m) : otherwise.m.map((p) => [...p]),
  };
}

/** What the address keeps: memories only when they were moved. */
function shared({ beta, q, m }) {
  const moved = m.some((p, i) => p.some((v, d) => v !== INITIAL.m[i][d]));
  return { beta, q, ...(moved ? { m: m.flat() } : {}) };
}

const STYLE_AVERAGE = `
.amx-average .board { display: grid; grid-template-columns: minmax(0, 1fr) 200px; gap: 0 1.3rem; align-items: start; }
.amx-average .plot { position: relative; aspect-ratio: ${WIDE} / ${TALL}; border-radius: 8px; overflow: hidden; border: 1px solid var(--amx-line); }
.amx-average .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-average .plot svg { touch-action: pan-y; cursor: crosshair; }
.amx-average .memory, .amx-average .query { cursor: grab; touch-action: none; }
.amx-average .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-average .memory text { fill: var(--amx-paper); font-size: 11px; font-weight: 700; text-anchor: middle; pointer-events: none; }
.amx-average .query .dot { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 2; }
.amx-average .way { fill: none; stroke: var(--amx-trajectory); stroke-width: 2.5; stroke-linejoin: round; }
.amx-average .stops circle { fill: var(--amx-trajectory); stroke: var(--amx-paper); stroke-width: 1; }
.amx-average .valley { fill: none; stroke: var(--amx-energy); stroke-width: 2; }
.amx-average .count { font-weight: 600; fill: var(--amx-ink) !important; paint-order: stroke; stroke: var(--amx-paper); stroke-width: 3px; stroke-linejoin: round; text-anchor: middle; }
.amx-average .number { font-size: 1.5rem; font-weight: 650; line-height: 1.15; }
.amx-average .small { color: var(--amx-muted); font-size: .86rem; }
.amx-average .bars { display: grid; grid-template-columns: auto 1fr auto; gap: .28rem .5rem; align-items: center; margin-top: .5rem; font-size: .86rem; }
.amx-average .bars i { height: 11px; border-radius: 2px; background: var(--amx-memory); min-width: 1px; }
.amx-average .bars u { text-decoration: none; background: var(--amx-soft); border-radius: 2px; display: flex; }
.amx-average .bars em { font-style: normal; font-variant-numeric: tabular-nums; text-align: right; min-width: 2.7em; }
.amx-average .ribbon { display: flex; margin: 0 10px; height: 20px; border-radius: 5px; overflow: hidden; font-size: .76rem; line-height: 20px; text-align: center; color: var(--amx-ink); }
.amx-average .ribbon span { background: color-mix(in srgb, var(--amx-energy) var(--depth), var(--amx-soft)); overflow: hidden; white-space: nowrap; box-shadow: inset -1px 0 var(--amx-paper); }
.amx-average .amx-controls { grid-template-columns: 1fr; }
@media (max-width: 620px) {
  .amx-average .board { grid-template-columns: minmax(0, 1fr); gap: .7rem; }
  .amx-average .bars { gap: .12rem .5rem; }
}
`;

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "average", title: "From average to memory",
    label: "Explorable: query dots run downhill in the energy landscape of six memories in the plane",
    style: STYLE_AVERAGE, start: INITIAL, settingsFrom, play: release, anew: drawRibbon, shared,
  });
  const { ui, now, touched, soon, halt } = life;
  let found = [];
  let flows = []; // for each dot the places it passes
  let way = []; // the same for the chosen dot
  let moment = 0; // how many steps have been shown, with a fraction
  let arrived = false; // all dots are at rest

  // --- the picture: landscape, dots, and what can be held, on top of each other ----------------
  const land = node("canvas", { role: "img" });
  const dots = node("canvas", { "aria-hidden": "true" });
  const rings = svg("g");
  const path = svg("path", { class: "way" });
  const stops = svg("g", { class: "stops" });
  const over = svg("svg", {}, rings, path, stops);
  const plot = node("div", { class: "plot" }, land, dots, over);
  const number = node("p", { class: "number" });
  const name = node("p", { class: "small" });
  const caption = node("p", { class: "small", style: "margin-top:.9rem" });
  const bars = node("div", { class: "bars", "aria-hidden": "true" });
  const rows = INITIAL.m.map((_, i) => {
    const [bar, share] = [node("i"), node("em")];
    bars.append(node("b", {}, NAMES[i]), node("u", {}, bar), share);
    return { bar, share };
  });
  ui.stage.append(node("div", { class: "board" }, plot, node("div", {}, number, name, caption, bars)));

  let w = 400;
  let h = 300;
  const sx = (x) => ((x + WIDE) / (2 * WIDE)) * w;
  const sy = (y) => ((TALL - y) / (2 * TALL)) * h;
  const back = (event) => {
    const box = over.getBoundingClientRect();
    return [-WIDE + ((event.clientX - box.left) / box.width) * 2 * WIDE, TALL - ((event.clientY - box.top) / box.height) * 2 * TALL];
  };
  const bound = ([x, y], room = 0.06) => [clamp(x, room - WIDE, WIDE - room), clamp(y, room - TALL, TALL - room)].map((v) => Number(v.toFixed(3)));

  function handle(kind, label, text) {
    const g = svg("g", { class: kind, role: "slider", tabindex: "0", "aria-roledescription": "point", "aria-label": label, "aria-valuemin": -WIDE, "aria-valuemax": WIDE },
      svg("circle", { r: 18, fill: "transparent" }), svg("circle", { class: "amx-ring", r: 13 }), svg("circle", { class: "dot", r: 9 }));
    if (text) g.append(svg("text", { y: 4 }, text));
    over.append(g);
    return g;
  }
  const pegs = INITIAL.m.map((_, i) => handle("memory", `Memory ${NAMES[i]}: arrow keys move it`, NAMES[i]));
  const query = handle("query", "Chosen query: arrow keys move it, Enter lets it go");
  query.querySelector(".dot").setAttribute("r", 7.5);

  function place(g, [x, y]) {
    set(g, { transform: `translate(${sx(x).toFixed(2)} ${sy(y).toFixed(2)})`, "aria-valuenow": x, "aria-valuetext": `at ${nice(x)}, ${nice(y)}` });
  }

  // --- from the settings to everything that is drawn -------------------------------------------
  const seeds = (() => {
    const dice = random(7);
    const list = [];
    for (let j = 0; j < 10; j++) {
      for (let i = 0; i < 14; i++) {
        list.push([(-1 + (2 * (i + 0.15 + 0.7 * dice())) / 14) * WIDE, (-1 + (2 * (j + 0.15 + 0.7 * dice())) / 10) * TALL]);
      }
    }
    return list;
  })();

  function flow(x) {
    const list = [x];
    for (let t = 0; t < 200; t++) {
      const next = step(x, now.m, now.beta);
      list.push(next);
      if (Math.hypot(next[0] - x[0], next[1] - x[1]) < 1e-5) break;
      x = next;
    }
    return list;
  }

  function measure() {
    found = valleys(now.m, now.beta);
    way = flow(now.q);
    flows = seeds.map(flow);
  }

  function drawLand() {
    w = plot.clientWidth;
    h = plot.clientHeight;
    if (!w) return;
    const c = colours(ui.root);
    const [nx, ny] = [Math.round(w / 4), Math.round(h / 4)];
    const grid = new Float64Array((nx + 1) * (ny + 1));
    let [low, high] = [Infinity, -Infinity];
    for (let j = 0; j <= ny; j++) {
      for (let i = 0; i <= nx; i++) {
        const e = energy([-WIDE + (2 * WIDE * i) / nx, TALL - (2 * TALL * j) / ny], now.m, now.beta);
        grid[j * (nx + 1) + i] = e;
        low = Math.min(low, e);
        high = Math.max(high, e);
      }
    }
    const context = pen(land, w, h);
    paint(context, grid, nx, ny, low, high, c);
    context.strokeStyle = c.energy;
    context.lineWidth = 1;
    context.globalAlpha = 0.4;
    for (let k = 1; k <= 9; k++) contour(context, grid, nx, ny, low + (high - low) * (k / 10) ** 2);
    context.globalAlpha = 1;
    over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    drawRings();
    pegs.forEach((g, i) => place(g, now.m[i]));
  }

  function paint(context, grid, nx, ny, low, high, c) {
    const small = document.createElement("canvas");
    small.width = nx + 1;
    small.height = ny + 1;
    const image = small.getContext("2d").createImageData(nx + 1, ny + 1);
    const [deep, flat] = [rgb(c.energy), rgb(c.paper)];
    for (let p = 0; p < grid.length; p++) {
      const depth = 0.56 * (1 - Math.sqrt((grid[p] - low) / (high - low || 1))) ** 1.2;
      for (let d = 0; d < 3; d++) image.data[4 * p + d] = flat[d] + depth * (deep[d] - flat[d]);
      image.data[4 * p + 3] = 255;
    }
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0.5, 0.5, nx, ny, 0, 0, w, h);
  }

  function contour(context, grid, nx, ny, level) {
    const at = (i, j) => grid[j * (nx + 1) + i] - level;
    context.beginPath();
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) {
        const corner = [at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)];
        const cuts = [];
        for (let k = 0; k < 4; k++) {
          const [a, b] = [corner[k], corner[(k + 1) % 4]];
          if (a > 0 === b > 0) continue;
          const f = a / (a - b);
          cuts.push([[i + f, j], [i + 1, j + f], [i + 1 - f, j + 1], [i, j + 1 - f]][k]);
        }
        for (let k = 0; k + 1 < cuts.length; k += 2) {
          context.moveTo((cuts[k][0] * w) / nx, (cuts[k][1] * h) / ny);
          context.lineTo((cuts[k + 1][0] * w) / nx, (cuts[k + 1][1] * h) / ny);
        }
      }
    }
    context.stroke();
  }

  /** Green rings at the valleys; once the dots have arrived, how many each of them holds. */
  function drawRings() {
    const held = found.map(() => 0);
    for (const list of arrived ? flows : []) {
      const [x, y] = list.at(-1);
      const gaps = found.map((v) => Math.hypot(v.x[0] - x, v.x[1] - y));
      held[gaps.indexOf(Math.min(...gaps))]++;
    }
    rings.replaceChildren(...found.flatMap((v, i) => {
      const [cx, cy] = [sx(v.x[0]), sy(v.x[1])];
      const ring = svg("circle", { class: "valley", cx, cy, r: 13 });
      return held[i] ? [ring, svg("text", { class: "count", x: cx, y: cy + (cy > h - 40 ? -18 : 27) }, `${held[i]}`)] : [ring];
    }));
  }

  const along = (list, t) => {
    const k = Math.min(Math.floor(t), list.length - 1);
    const next = list[Math.min(k + 1, list.length - 1)];
    const f = t - Math.floor(t);
    const ease = f * f * (3 - 2 * f);
    return [0, 1].map((d) => list[k][d] + ease * (next[d] - list[k][d]));
  };

  /** Everything that moves while the dots flow. */
  function drawDots() {
    if (!w) return;
    const c = colours(ui.root);
    const context = pen(dots, w, h);
    for (const list of flows) {
      const here = along(list, moment);
      context.strokeStyle = c.trajectory;
      context.globalAlpha = 0.45;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(sx(list[0][0]), sy(list[0][1]));
      for (let k = 1; k <= moment && k < list.length; k++) context.lineTo(sx(list[k][0]), sy(list[k][1]));
      context.lineTo(sx(here[0]), sy(here[1]));
      context.stroke();
      context.globalAlpha = 0.95;
      context.fillStyle = c.query;
      context.beginPath();
      context.arc(sx(here[0]), sy(here[1]), 2.7, 0, 7);
      context.fill();
    }
    const shown = Math.min(Math.floor(moment + 1e-9), way.length - 1);
    const here = along(way, moment);
    const spots = [...way.slice(0, shown + 1), here];
    path.setAttribute("d", `M${spots.map((p) => `${sx(p[0]).toFixed(1)},${sy(p[1]).toFixed(1)}`).join("L")}`);
    stops.replaceChildren(...way.slice(0, shown + 1).map((p) => svg("circle", { cx: sx(p[0]), cy: sy(p[1]), r: 3.2 })));
    place(query, here);
    const pull = weights(here, now.m, now.beta);
    const rest = shown >= way.length - 1;
    caption.textContent = rest ? "Pull on the big dot, at rest" : `Pull on the big dot, step ${shown}`;
    rows.forEach(({ bar, share }, i) => {
      bar.style.width = `${(100 * pull[i]).toFixed(1)}%`;
      share.textContent = `${Math.round(100 * pull[i])} %`;
    });
  }

  function headline() {
    const kind = regime(found, now.m.length);
    const titles = { average: "one average", metastable: "metastable", single: "single memories", crowded: "one valley too many" };
    number.textContent = `${found.length} valley${found.length > 1 ? "s" : ""}`;
    name.textContent = `for ${now.m.length} memories: ${titles[kind]}`;
    land.setAttribute("aria-label", `Energy landscape with ${number.textContent} ${name.textContent}`);
    betaSlider.show(now.beta);
  }

  /** Show the present settings with every dot at its start. */
  function lay() {
    halt();
    measure();
    moment = 0;
    arrived = false;
    headline();
    drawLand();
    drawDots();
  }

  function release(after = null) {
    lay();
    const last = Math.max(way.length, ...flows.map((list) => list.length)) - 1;
    const shown = Math.min(last, 14); // a dot on flat ground creeps: the rest of its way is skipped
    life.film(500 + 380 * shown, (t) => {
      moment = t < 1 ? t * shown : last;
      drawDots();
    }, () => {
      arrived = true;
      drawRings();
      ui.say(...tell(found, now.m, now.beta));
    }, after);
  }

  // --- hands ---------------------------------------------------------------------------------
  pegs.forEach((g, i) => {
    const put = (spot) => {
      now.m[i] = bound(spot);
      touched();
      lay();
      soonRibbon();
    };
    draggable(g, (event) => put(back(event)), release);
    arrows(g, (dx, dy) => { put([now.m[i][0] + 0.05 * dx, now.m[i][1] + 0.05 * dy]); soon(); }, release);
  });
  const carry = (spot) => {
    now.q = bound(spot);
    touched();
    lay();
  };
  draggable(query, (event) => carry(back(event)), release);
  draggable(over, (event) => carry(back(event)), release);
  arrows(query, (dx, dy) => { carry([now.q[0] + 0.05 * dx, now.q[1] + 0.05 * dy]); soon(); }, release);

  const betaSlider = slider({
    name: "beta", label: "β, how sharp. Below: the number of valleys", min: BETAS[0], max: BETAS[1], log: true, value: now.beta, format: (v) => nice(v, v < 10 ? 2 : 1),
    input: (v) => { now.beta = v; touched(); lay(); soon(); },
  });
  const ribbon = node("div", { class: "ribbon", "aria-hidden": "true" });
  betaSlider.root.append(ribbon);
  ui.controls.append(betaSlider.root);
  ui.row.append(node("button", { type: "button", class: "amx-push", onclick: () => { touched(); release(); } }, "Let them flow again"));

  let ribbonTimer = 0;
  function soonRibbon() {
    clearTimeout(ribbonTimer);
    ribbonTimer = setTimeout(drawRibbon, 120);
  }

  /** How many valleys there are at each beta, as a strip under the slider. */
  function drawRibbon() {
    const parts = 80;
    const runs = [];
    for (let i = 0; i < parts; i++) {
      const count = valleys(now.m, BETAS[0] * (BETAS[1] / BETAS[0]) ** ((i + 0.5) / parts)).length;
      if (runs.length && runs.at(-1).count === count) runs.at(-1).size++;
      else runs.push({ count, size: 1 });
    }
    ribbon.replaceChildren(...runs.map(({ count, size }) =>
      node("span", { style: `flex:${size} 0 0;--depth:${Math.round((60 * (count - 1)) / 6)}%` }, size > 3 ? `${count}` : "")));
  }

  const show = (settings) => () => life.show({ ...INITIAL, ...settings });
  tries(ui.hint, "Drag the memories, drag the big dot. Or try", [["three clusters", show({ beta: 8 })],
    ["one average", show({ beta: 1 })], ["a valley too many", show({ beta: 21, q: [-0.5, 0.75] })]]);

  life.ask({
    asked: { ...INITIAL, beta: 8 },
    question: "β is high, and each memory has its own valley. Now β goes down to 8. What will be left of the neighbours A, B and C?",
    answers: [["three", "Three memories"], ["one", "One average"]],
    reply: (key) => `${key === "one" ? "Yes, one average." : "One average."} Near β\u00a0=\u00a021 their three valleys became one. D and E fused as well, and only F, far from everybody, is still a memory.`,
    answer(done) {
      now.beta = INITIAL.beta;
      lay();
      life.film(2600, (t) => {
        now.beta = Number((INITIAL.beta * (8 / INITIAL.beta) ** t).toPrecision(3));
        measure();
        moment = 0;
        headline();
        drawLand();
        drawDots();
      }, () => release(done));
    },
  });

  drawRibbon();
  lay();
  return life.open({
    draw() { drawLand(); drawDots(); },
    watched: plot, seen: ui.stage, close: () => clearTimeout(ribbonTimer),
  });
}

import { choice, clamp, draggable, explorable, nice, node, numberFrom, set, slider, svg } from "./common.js";

// Tokens going downhill: a small Energy Transformer whose tokens can be drawn. It must teach: two
// terms of one energy pull, attention towards each other and memories towards what is known; both
// act at once and the sum falls; and why a token may not look at itself.
//
// Tokens have D = 3 numbers. Layer norm takes away the mean, so only a plane is left, and the
// length, so only a ring. x is drawn in that plane (two numbers), g is its place on the ring.
//
//   g_A = sqrt(3) x_A / |x_A|                                               (MM 3.13, eps -> 0)
//   E_att = -(1/beta) sum_C log sum_{B != C} exp(beta g_B . g_C)            (MM 3.15, W^Q = W^K)
//   E_mem = -(1/2) sum_B sum_mu max(xi_mu . g_B, 0)^2                       (MM 3.17)
//   x <- x - eta d(a E_att + m E_mem)/dg                                    (MM 3.19)

const ANGLES = [90, 205, 330]; // of the memories, in degrees
const NAMES = ["A", "B", "C"];
const RADIUS = Math.sqrt(3); // |g| for D = 3
const STEPS = 150;
const ETA = 0.08;
const NEAR = 20; // degrees: tokens nearer than this are one heap, a heap nearer than this is at a memory
const ANSWERED = { a: 1, m: 0, beta: 0.3, self: "no" };
const START = { a: 1, m: 1.5, beta: 1, self: "no", t: [12, 38, 61, 118, 149, 171, 236, 262, 287, 311, 338, 352] };

const plane = (degrees, r = 1) => [r * Math.cos((degrees * Math.PI) / 180), r * Math.sin((degrees * Math.PI) / 180)];
const dot = (p, q) => p[0] * q[0] + p[1] * q[1];

/** The three memories, unit vectors in the plane. */
export function memories() {
  return ANGLES.map((angle) => plane(angle));
}

/** Where tokens start: at these angles, all at the same small distance from the middle. */
export function start(angles) {
  return angles.map((angle) => plane(angle, 0.8));
}

/** Layer norm of three numbers, in the plane that is left of them. */
export function normalise(x) {
  const size = Math.hypot(x[0], x[1]);
  return [(RADIUS * x[0]) / size, (RADIUS * x[1]) / size];
}

/** The scores of one query and their softmax, the query itself left out unless `self` is "yes". */
function attend(g, c, beta, self) {
  const scores = g.map((k, b) => (b === c && self !== "yes" ? -Infinity : beta * dot(k, g[c])));
  const top = Math.max(...scores);
  const raw = scores.map((s) => Math.exp(s - top));
  const sum = raw.reduce((p, q) => p + q, 0);
  return { log: top + Math.log(sum), weights: raw.map((r) => r / sum) };
}

/** The two terms, not yet weighted, and their weighted sum. */
export function energies(x, { a, m, beta, self }) {
  const g = x.map(normalise);
  const attention = -g.reduce((sum, _, c) => sum + attend(g, c, beta, self).log, 0) / beta;
  const memory = -0.5 * g.reduce((sum, token) => sum + memories().reduce((s, xi) => s + Math.max(0, dot(xi, token)) ** 2, 0), 0);
  return { attention: a * attention, memory: m * memory, total: a * attention + m * memory };
}

/** The gradient of the weighted sum with respect to g, in closed form, one pair for each token. */
export function gradient(x, { a, m, beta, self }) {
  const g = x.map(normalise);
  const slope = g.map(() => [0, 0]);
  g.forEach((token, c) => {
    const { weights } = attend(g, c, beta, self);
    weights.forEach((p, b) => [0, 1].forEach((d) => {
      slope[c][d] -= a * p * g[b][d]; // what it looks for
      slope[b][d] -= a * p * token[d]; // what others look for in it
    }));
    for (const xi of memories()) {
      const overlap = Math.max(0, dot(xi, token));
      for (const d of [0, 1]) slope[c][d] -= m * overlap * xi[d];
    }
  });
  return slope;
}

/** One step down. */
export function step(x, settings, eta = ETA) {
  const slope = gradient(x, settings);
  return x.map((token, i) => [token[0] - eta * slope[i][0], token[1] - eta * slope[i][1]]);
}

/** A whole run: states, energies, and how often the sum rose. */
export function run(settings, steps = STEPS) {
  let x = start(settings.t);
  const states = [x];
  const trace = [energies(x, settings)];
  let rises = 0;
  for (let t = 1; t <= steps; t++) {
    x = step(x, settings);
    states.push(x);
    trace.push(energies(x, settings));
    if (trace[t].total > trace[t - 1].total + 1e-9) rises++;
  }
  return { states, trace, rises };
}

const angleOf = (p) => ((Math.atan2(p[1], p[0]) * 180) / Math.PI + 360) % 360;
const apart = (p, q) => Math.abs(((p - q + 540) % 360) - 180);

/** Heaps on the ring: neighbours less than NEAR degrees apart belong together. [{angle, size, at}] */
export function heaps(x) {
  const sorted = x.map(angleOf).sort((p, q) => p - q);
  const gaps = sorted.map((angle, i) => (sorted[(i + 1) % sorted.length] - angle + 360) % 360 || (sorted.length === 1 ? 360 : 0));
  const first = (gaps.indexOf(Math.max(...gaps)) + 1) % sorted.length;
  const found = [];
  for (let i = 0; i < sorted.length; i++) {
    const k = (first + i) % sorted.length;
    if (i === 0 || gaps[(k + sorted.length - 1) % sorted.length] > NEAR) found.push([]);
    found.at(-1).push(sorted[k]);
  }
  return found.map((members) => {
    const middle = angleOf(members.map((angle) => plane(angle)).reduce((p, q) => [p[0] + q[0], p[1] + q[1]], [0, 0]));
    const wide = Math.max(...members.map((angle) => apart(angle, middle)));
    const best = ANGLES.map((angle) => apart(angle, middle));
    const mu = best.indexOf(Math.min(...best));
    return { angle: middle, size: members.length, wide, at: best[mu] < NEAR ? NAMES[mu] : null };
  });
}

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, settings) {
  const found = heaps(ride.states.at(-1)).sort((p, q) => q.size - p.size);
  const fell = ride.trace[0].total - ride.trace.at(-1).total;
  const fall = ride.rises ? `The energy rose in ${ride.rises} of ${STEPS} steps.` : `The energy fell by ${nice(fell, 1)} and rose in none of ${STEPS} steps.`;
  if (settings.a === 0 && settings.m === 0) return ["Nothing moves.", "Both terms are off: the landscape is flat.", ""];
  const moved = ride.states[0].map((p, i) => apart(angleOf(p), angleOf(ride.states.at(-1)[i])));
  const still = Math.max(...moved) < 12;
  if (still && settings.m === 0) return ["They hardly move.", `Each token finds one token that matches it best: itself. Attention is satisfied and teaches nothing. ${fall}`, "bad"];
  const one = (heap) => `${heap.size} ${heap.size > 1 ? "tokens" : "token"} ${heap.at && settings.m > 0 ? `at ${heap.at}` : ""}`.trim();
  const list = found.slice(0, 4).map(one).join(", ") + (found.length > 4 ? ", …" : "");
  if (settings.m === 0) {
    const lead = found.length === 1 ? "One heap." : `${found.length} heaps.`;
    return [lead, `${list}. Nothing says where a heap should be; they agree on whatever was near. ${fall}`, ""];
  }
  const lost = found.filter((heap) => !heap.at);
  if (settings.a === 0) return ["Each for itself.", `${list}. Every token goes to the memory that is nearest to it and asks nobody. ${fall}`, lost.length ? "" : "good"];
  if (found.length === 1 && found[0].at) return [`All of them agree on ${found[0].at}.`, `Attention made a crowd, and a memory told the crowd what it is. ${fall}`, "good"];
  if (!lost.length) return ["Crowds with a name.", `${list}. ${fall}`, "good"];
  return [`${found.length === 1 ? "One heap" : `${found.length} heaps`}, and no memory for ${lost.length === 1 ? "one of them" : "some"}.`, `${list}. The two terms found a compromise between company and knowledge. ${fall}`, ""];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = Array.isArray(given.t) ? given.t : given.t == null ? null : String(given.t).split(",").map(Number);
  const good = list && list.length === START.t.length && list.every((angle) => Number.isFinite(angle) && angle >= 0 && angle <= 360);
  return {
    a: numberFrom(given.a, 0, 2, otherwise.a),
    m: numberFrom(given.m, 0, 4, otherwise.m),
    beta: numberFrom(given.beta, 0.1, 20, otherwise.beta),
    self: ["no", "yes"].includes(given.self) ? given.self : otherwise.self,
    t: good ? list.map(Number) : [...otherwise.t],
  };
}

const STYLE_TOKENS = `
.amx-tokens .ring { fill: none; stroke: var(--amx-line); stroke-width: 1; }
.amx-tokens .band { fill: none; stroke: var(--amx-memory); stroke-width: 9; stroke-linecap: butt; }
.amx-tokens .mem { fill: var(--amx-memory); }
.amx-tokens text.mem { font-weight: 650; text-anchor: middle; }
.amx-tokens .way { fill: none; stroke: var(--amx-trajectory); stroke-width: 1.6; opacity: .75; }
.amx-tokens .spoke { stroke: var(--amx-edge); stroke-width: 1; }
.amx-tokens .link { stroke: var(--amx-energy); }
.amx-tokens .token { fill: var(--amx-query); stroke: var(--amx-paper); stroke-width: 1.5; }
.amx-tokens .shadow { fill: var(--amx-ink); }
.amx-tokens .grip { fill: transparent; cursor: grab; touch-action: none; }
.amx-tokens .axis, .amx-tokens .now { stroke: var(--amx-line); stroke-width: 1; }
.amx-tokens path.total { stroke: var(--amx-energy); stroke-width: 3; fill: none; }
.amx-tokens path.attention { stroke: var(--amx-query); stroke-width: 1.8; fill: none; }
.amx-tokens path.memory { stroke: var(--amx-memory); stroke-width: 1.8; fill: none; stroke-dasharray: 6 3; }
.amx-tokens text.strong { fill: var(--amx-ink); font-weight: 600; }
`;
const PARTS = [["total", "sum"], ["attention", "attention"], ["memory", "memories"]];

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "tokens", title: "Tokens going downhill", patience: 400,
    label: "Explorable: twelve tokens move down the sum of an attention energy and a memory energy",
    style: STYLE_TOKENS, start: START, settingsFrom, play,
  });
  const { ui, now, touched, soon, halt } = life;
  let ride = run(now);
  let moment = 0;

  const plot = svg("svg", {});
  const [back, links, ways, tokens, lines, labels, grips] = ["back", "links", "ways", "tokens", "lines", "labels", "grips"].map((name) => svg("g", { class: name }));
  const cursor = svg("line", { class: "now" });
  plot.append(back, links, ways, tokens, cursor, lines, labels, grips);
  ui.stage.append(plot);

  let box = {};
  const squash = (r) => r / (r + 3); // the plane has no end, the picture has
  const at = (p) => {
    const r = Math.hypot(p[0], p[1]);
    const scale = (box.ring * squash(r)) / r;
    return [box.cx + scale * p[0], box.cy - scale * p[1]];
  };
  const onRing = (p, r = box.ring) => {
    const size = Math.hypot(p[0], p[1]);
    return [box.cx + (r * p[0]) / size, box.cy - (r * p[1]) / size];
  };
  const tx = (t) => box.left + (t / STEPS) * (box.right - box.left);

  function layout() {
    const w = Math.max(260, ui.stage.clientWidth);
    const narrow = w < 520;
    const side = narrow ? Math.min(w, 330) : Math.min(w * 0.48, 330);
    box = narrow
      ? { cx: w / 2, cy: side / 2, ring: side / 2 - 32, left: 40, right: w - 8, top: side + 34, bottom: side + 174 }
      : { cx: side / 2, cy: side / 2, ring: side / 2 - 32, left: side + 56, right: w - 8, top: 34, bottom: side - 62 };
    const h = Math.max(side, box.bottom + 46);
    set(plot, { width: w, height: h, viewBox: `0 0 ${w} ${h}`, style: `height:${h}px` });
  }

  function scale() {
    const all = ride.trace.flatMap((e) => [e.total, e.attention, e.memory]);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return (e) => box.bottom - 4 - ((e - low) / (high - low || 1)) * (box.bottom - box.top - 8);
  }

  function drawFrame() {
    const y = scale();
    const band = Array.from({ length: 120 }, (_, k) => {
      const depth = memories().reduce((sum, xi) => sum + Math.max(0, dot(xi, plane(3 * k))) ** 2, 0);
      const [p, q] = [onRing(plane(3 * k - 1.5), box.ring + 8), onRing(plane(3 * k + 1.5), box.ring + 8)];
      return svg("path", { class: "band", d: `M${p[0]},${p[1]}L${q[0]},${q[1]}`, opacity: (0.06 + 0.42 * Math.min(1, now.m) * depth).toFixed(3) });
    });
    back.replaceChildren(svg("circle", { class: "ring", cx: box.cx, cy: box.cy, r: box.ring }), ...band,
      ...memories().map((xi, mu) => {
        const [px, py] = onRing(xi, box.ring + 23);
        return svg("text", { class: "mem", x: px, y: py + 4, opacity: now.m > 0 ? 1 : 0.35 }, NAMES[mu]);
      }),
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    lines.replaceChildren(...[...PARTS].reverse().map(([key]) => svg("path", { class: key, d: "" })));
    const tick = (e) => svg("text", { x: box.left - 6, y: y(e) + 4, "text-anchor": "end" }, nice(e, 0));
    const last = ride.trace.at(-1).total;
    const ends = Math.abs(y(last) - y(ride.trace[0].total)) > 14 ? [tick(last)] : [];
    const wide = (box.right - box.left) / 3;
    labels.replaceChildren(
      svg("text", { class: "strong", x: box.left, y: box.top - 14 }, "energy, and its two terms"),
      tick(ride.trace[0].total), ...ends,
      svg("text", { x: box.right, y: box.bottom + 16, "text-anchor": "end" }, `${STEPS} steps`),
      ...PARTS.map(([key, text], i) => svg("g", {},
        svg("path", { class: key, d: `M${box.left + i * wide},${box.bottom + 32}h16` }),
        svg("text", { x: box.left + i * wide + 21, y: box.bottom + 36 }, text))));
  }

  function drawState() {
    const t = Math.round(moment);
    const x = ride.states[t];
    const g = x.map(normalise);
    const y = scale();
    ways.replaceChildren(...x.map((_, i) => {
      const points = [];
      for (let k = 0; k <= t; k += 3) points.push(at(ride.states[k][i]).map((v) => v.toFixed(1)).join(","));
      points.push(at(x[i]).map((v) => v.toFixed(1)).join(","));
      return svg("path", { class: "way", d: `M${points.join("L")}` });
    }));
    links.replaceChildren(...(now.a === 0 ? [] : g.flatMap((_, c) => attend(g, c, now.beta, now.self).weights.map((p, b) => {
      if (p < 0.12 || b === c) return null;
      const [from, to] = [at(x[c]), at(x[b])];
      return svg("line", { class: "link", x1: from[0], y1: from[1], x2: to[0], y2: to[1], "stroke-width": (2.4 * p).toFixed(2), opacity: (0.25 + 0.5 * p).toFixed(2) });
    }).filter(Boolean))));
    tokens.replaceChildren(...x.flatMap((p) => {
      const [[px, py], [rx, ry]] = [at(p), onRing(p)];
      return [svg("line", { class: "spoke", x1: px, y1: py, x2: rx, y2: ry }), svg("circle", { class: "shadow", cx: rx, cy: ry, r: 2.6 }), svg("circle", { class: "token", cx: px, cy: py, r: 6 })];
    }));
    for (const [key] of PARTS) {
      const points = [];
      for (let k = 0; k <= t; k++) points.push(`${tx(k).toFixed(1)},${y(ride.trace[k][key]).toFixed(1)}`);
      lines.querySelector(`path.${key}`).setAttribute("d", `M${points.join("L")}`);
    }
    set(cursor, { x1: tx(t), x2: tx(t), y1: box.top, y2: box.bottom });
    if (t === 0) drawGrips();
  }

  const handles = START.t.map((_, i) => {
    const grip = svg("g", { role: "slider", tabindex: "0", "aria-label": `Where token ${i + 1} starts: arrow keys turn it`, "aria-valuemin": 0, "aria-valuemax": 360 },
      svg("circle", { class: "grip", r: 16 }), svg("circle", { class: "amx-ring", r: 10 }));
    const put = (angle) => {
      now.t[i] = Math.round((angle + 360) % 360);
      touched();
      rewind();
    };
    draggable(grip, (event) => {
      const frame = plot.getBoundingClientRect();
      put(angleOf([event.clientX - frame.left - box.cx, box.cy - (event.clientY - frame.top)]));
    }, () => play());
    grip.addEventListener("keydown", (event) => {
      const way = { ArrowUp: 5, ArrowRight: -5, ArrowDown: -5, ArrowLeft: 5 }[event.key];
      if (way) { put(now.t[i] + way); soon(); event.preventDefault(); }
      if (event.key === "Enter" || event.key === " ") { play(); event.preventDefault(); }
    });
    grips.append(grip);
    return grip;
  });

  function drawGrips() {
    start(now.t).forEach((p, i) => {
      const [px, py] = at(p);
      for (const child of handles[i].children) set(child, { cx: px, cy: py });
      set(handles[i], { "aria-valuenow": now.t[i], "aria-valuetext": `${now.t[i]} degrees` });
    });
  }

  function rewind() {
    halt();
    ride = run(now);
    moment = 0;
    sliders.forEach(([key, control]) => control.show(now[key]));
    own.show(now.self);
    drawAll();
  }

  function drawAll() {
    layout();
    drawFrame();
    drawGrips();
    drawState();
  }

  function play(after = null) {
    rewind();
    life.film(3200, (t) => {
      moment = clamp(t, 0, 1) * STEPS;
      drawState();
    }, () => ui.say(...tell(ride, now)), after);
  }

  const control = (name, label, min, max, log = false) => [name, slider({
    name, label, min, max, step: 0.1, log, value: now[name], format: (v) => nice(v, log ? 2 : 1),
    input: (v) => { now[name] = v; touched(); rewind(); soon(); },
  })];
  const sliders = [control("a", "weight of the attention energy", 0, 2), control("m", "weight of the memory energy", 0, 4), control("beta", "β, how picky attention is", 0.1, 20, true)];
  const own = choice({
    name: "self", label: "A token may look at itself", value: now.self, options: [["no", "no: B ≠ C"], ["yes", "yes"]],
    input: (key) => { now.self = key; touched(); play(); },
  });
  ui.controls.append(...sliders.map(([, made]) => made.root), own.root);
  ui.row.append(node("button", { type: "button", class: "amx-push", onclick: () => { touched(); play(); } }, "Run again"));
  ui.hint.append("Orange: tokens, drag them to where they should start; the dot on the ring is what the energy sees of each. Turn one weight to zero, then the other. Then take only attention, β at 20, and let tokens look at themselves.");

  life.ask({
    question: "Switch the memories off. What will attention alone do with twelve tokens that know nothing?",
    answers: [["spread", "Keep them spread out"], ["heap", "Pull them together"]],
    reply: (key) => `${key === "heap" ? "Yes: they pile up." : "No: they pile up."} Every token is happy when others point its way. Attention spreads what is known; it knows nothing itself.`,
    asked: { ...START, ...ANSWERED },
  });

  rewind();
  return life.open({ draw: drawAll });
}

import { arrows, clamp, draggable, explorable, nice, node, numberFrom, set, slider, svg, tries } from "./common.js";

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
  return x - weights(x, memories, beta).reduce((sum, w, i) => sum + w * memories[i], 0);
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
export function valleyOf(x, marks) {
  return marks.ridges.filter((ridge) => ridge < x).length;
}

/** Let go at x: the whole path, its energies, and what kind of ride it was. */
export function roll(x, memories, beta, eta, { steps = 400, tolerance = 1e-3, bound = 6 } = {}) {
  const path = [x];
  const energies = [energy(x, memories, beta)];
  let overshoots = 0;
  let rose = -1;
  let slope = gradient(x, memories, beta);
  for (let t = 1; t <= steps && Math.abs(slope) > tolerance && Math.abs(x) < bound && (rose < 0 || t < rose + 24); t++) {
    x -= eta * slope;
    path.push(x);
    energies.push(energy(x, memories, beta));
    const next = gradient(x, memories, beta);
    if (next * slope < 0) overshoots++;
    if (rose < 0 && energies[t] > energies[t - 1] + 1e-12) rose = t;
    slope = next;
  }
  return { path, energies, overshoots, rose, settled: Math.abs(slope) <= tolerance, left: Math.abs(x) > EDGE };
}

const together = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/** What happened, in words: [lead, rest, kind]. */
export function tell(ride, memories, beta, eta) {
  const marks = landmarks(memories, beta);
  const [start, end] = [ride.path[0], ride.path.at(-1)];
  const count = ride.path.length - 1;
  const e = (t) => nice(ride.energies[t]);
  if (count === 0) {
    const ridge = marks.ridges.some((r) => Math.abs(r - start) < 1e-3);
    return ridge
      ? ["It does not move.", "The top of a ridge has no slope either. Nudge the ball to one side.", "bad"]
      : ["It stays where it is.", `x\u00a0=\u00a0${nice(start)} is the bottom of a valley already.`, "good"];
  }
  if (ride.rose > 0) {
    const fate = ride.left ? "The ball has left the picture." : `After ${count} steps it still swings to and fro.`;
    return ["This is no descent.", `Each step is so long that it lands higher on the other side: step ${ride.rose} took the energy from ${e(ride.rose - 1)} up to ${e(ride.rose)}. ${fate} Up to η\u00a0=\u00a02 the energy cannot rise.`, "bad"];
  }
  const valley = valleyOf(end, marks);
  const here = memories.map((m, i) => [LETTERS[i], valleyOf(m, marks)]).filter(([, v]) => v === valley).map(([letter]) => letter);
  const steps = `${count} step${count > 1 ? "s" : ""}`;
  if (!ride.settled) {
    return ["Still on its way.", `After ${steps} it is at x\u00a0=\u00a0${nice(end)} and creeping: the ground is almost flat here.`, ""];
  }
  const jumped = valleyOf(start, marks) !== valley ? ` It began in another valley and jumped the ridge.` : "";
  const swing = eta > 1 && ride.overshoots > 1 ? ` It overshot the bottom ${ride.overshoots} times, and still every step lost energy.` : "";
  if (here.length > 1) {
    const merged = memories.length === 2 ? ` The two valleys became one at β\u00a0=\u00a01/a²\u00a0=\u00a0${nice(mergeBeta(...memories))}.` : "";
    return [`It settled at x\u00a0=\u00a0${nice(end)}, and nobody stored that.`, `${together(here)} share one valley now.${merged}${swing}${jumped}`, "bad"];
  }
  const index = LETTERS.indexOf(here[0]);
  const pulled = Math.abs(end - memories[index]) > 0.02 ? ` The others pull the bottom ${nice(Math.abs(end - memories[index]))} away from ${here[0]} itself.` : "";
  return [`It remembered ${here[0]}.`, `From x\u00a0=\u00a0${nice(start)} it settled at x\u00a0=\u00a0${nice(end)} in ${steps}.${pulled}${swing}${jumped}`, jumped ? "bad" : "good"];
}

/** Settings that make sense, from any object of numbers or texts. */
export function settingsFrom(given, otherwise = START) {
  const list = Array.isArray(given.m) ? given.m : given.m == null ? null : String(given.m).split(",").map(Number);
  const good = list && list.length >= 2 && list.length <= 4 && list.every((m) => Number.isFinite(m) && Math.abs(m) <= REACH);
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
.amx-ball .axis { stroke: var(--amx-line); stroke-width: 1; }
.amx-ball .drop { stroke: var(--amx-memory); stroke-width: 1; stroke-dasharray: 2 3; }
.amx-ball .memory, .amx-ball .marble { cursor: grab; touch-action: none; }
.amx-ball .memory circle.dot { fill: var(--amx-memory); }
.amx-ball .memory text { fill: var(--amx-paper); font-weight: 700; text-anchor: middle; pointer-events: none; }
.amx-ball .marble .dot { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-ball .marble .gloss { fill: #fff; opacity: .65; }
.amx-ball .start { fill: none; stroke: var(--amx-query); stroke-width: 2; stroke-dasharray: 3 2.5; }
.amx-ball .trail circle { fill: var(--amx-trajectory); }
.amx-ball .trace { fill: none; stroke: var(--amx-energy); stroke-width: 2; stroke-linejoin: round; }
.amx-ball .trace-dots circle { fill: var(--amx-energy); }
.amx-ball .level { stroke: var(--amx-energy); stroke-width: 1; stroke-dasharray: 3 3; }
.amx-ball text.strong { fill: var(--amx-ink); font-weight: 600; }
.amx-ball text.to { fill: var(--amx-memory); font-weight: 600; text-anchor: middle; }
`;

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "ball", title: "A ball in a landscape",
    label: "Explorable: a ball rolls downhill in the energy landscape of a one-dimensional memory",
    style: STYLE_BALL, start: START, settingsFrom, play: release,
    anew() { mergers(); place(); },
  });
  const { ui, now, touched, halt } = life;
  let ride = null; // the path that is shown
  let moment = 0; // how many of its steps are shown, with a fraction
  let scene = null; // the landscape of the present settings, measured once

  // --- the picture: made once, moved by attributes -------------------------------------------
  const layer = (name, attributes = {}) => svg("g", { class: name, ...attributes });
  const clipId = `amx-clip-${Math.random().toString(36).slice(2, 8)}`;
  const clip = svg("rect");
  const basins = layer("basins");
  const curve = svg("path", { class: "curve" });
  const drops = layer("drops");
  const trail = layer("trail");
  const level = svg("line", { class: "level" });
  const start = svg("circle", { class: "start", r: 9 });
  const frame = layer("frame");
  const handles = layer("handles");
  const trace = svg("path", { class: "trace" });
  const dots = layer("trace-dots");
  const marble = svg("g", { class: "marble", role: "slider", tabindex: "0", "aria-label": "Ball: arrow keys move it, Enter lets it go", "aria-valuemin": -EDGE, "aria-valuemax": EDGE },
    svg("circle", { r: 22, fill: "transparent" }), svg("circle", { class: "amx-ring", r: 15 }),
    svg("circle", { class: "dot", r: 9.5 }), svg("circle", { class: "gloss", cx: -3, cy: -3.4, r: 2.3 }));
  const clipped = svg("g", { "clip-path": `url(#${clipId})` }, basins, drops, curve, trail, start);
  const plot = svg("svg", { class: "plot" }, svg("defs", {}, svg("clipPath", { id: clipId }, clip)), frame, clipped, level, trace, dots, handles, marble);
  ui.stage.append(plot);

  let w = 600;
  let h = 300;
  const box = { left: 30, top: 22, bottom: 62 };
  const split = () => box.left + (w - box.left) * 0.7;
  const sx = (x) => box.left + ((x + EDGE) / (2 * EDGE)) * (split() - box.left - 8);
  const unx = (px) => -EDGE + ((px - box.left) / (split() - box.left - 8)) * 2 * EDGE;
  const sy = (e) => h - box.bottom - ((e - scene.low) / (scene.high - scene.low)) * (h - box.bottom - box.top);
  const st = (t) => split() + 20 + (t / Math.max(8, ride.path.length - 1)) * (w - split() - 28);

  function measure() {
    const marks = landmarks(now.m, now.beta);
    const at = (x) => energy(x, now.m, now.beta);
    const bottom = Math.min(...marks.valleys.map(at));
    const top = Math.max(at(-EDGE), at(EDGE), ...marks.ridges.map(at));
    scene = { marks, low: bottom - 0.06 * (top - bottom), high: top };
    ride = roll(now.x, now.m, now.beta, now.eta);
  }

  function ticks() {
    const span = scene.high - scene.low;
    const unit = [0.1, 0.2, 0.5, 1, 2].find((u) => span / u <= 5) ?? 4;
    const list = [];
    for (let i = Math.ceil(scene.low / unit); i * unit <= scene.high; i++) list.push(i * unit);
    return list;
  }

  function drawLand() {
    w = Math.max(260, ui.stage.clientWidth);
    h = w < 480 ? 270 : 310;
    set(plot, { width: w, height: h, viewBox: `0 0 ${w} ${h}`, style: `height:${h}px` });
    const floor = h - box.bottom;
    set(clip, { x: box.left, y: 0, width: split() - box.left - 8, height: floor });
    const points = [];
    for (let px = 0; px <= 240; px++) {
      const x = -EDGE + (px / 240) * 2 * EDGE;
      points.push(`${sx(x).toFixed(1)},${sy(energy(x, now.m, now.beta)).toFixed(1)}`);
    }
    curve.setAttribute("d", `M${points.join("L")}`);
    drawBasins(floor);
    frame.replaceChildren(
      svg("text", { x: box.left, y: 12, class: "strong" }, "energy E(x)"),
      svg("text", { x: split() + 20, y: 12, class: "strong" }, w < 480 ? "over steps" : "the same, step by step"),
      svg("line", { class: "axis", x1: box.left, x2: split() - 8, y1: floor, y2: floor }),
      svg("line", { class: "axis", x1: split() + 20, x2: w, y1: floor, y2: floor }),
      ...ticks().map((e) => svg("text", { x: box.left - 6, y: sy(e) + 4, "text-anchor": "end" }, nice(e, Math.abs(e * 10) % 10 < 0.01 ? 0 : 1))),
    );
    drops.replaceChildren(...now.m.map((m) => svg("line", { class: "drop", x1: sx(m), x2: sx(m), y1: sy(energy(m, now.m, now.beta)), y2: floor })));
    drawMemories(floor);
  }

  function drawBasins(floor) {
    const edges = [-EDGE, ...scene.marks.ridges, EDGE];
    const names = (i) => now.m.map((m, k) => [LETTERS[k], valleyOf(m, scene.marks)]).filter(([, v]) => v === i).map(([letter]) => letter);
    const parts = [];
    for (let i = 0; i + 1 < edges.length; i++) {
      const land = [];
      for (let k = 0; k <= 60; k++) {
        const x = edges[i] + (k / 60) * (edges[i + 1] - edges[i]);
        land.push(`${sx(x).toFixed(1)},${sy(energy(x, now.m, now.beta)).toFixed(1)}`);
      }
      parts.push(svg("path", { class: "basin", opacity: i % 2 ? 0.2 : 0.1, d: `M${sx(edges[i])},${floor}L${land.join("L")}L${sx(edges[i + 1])},${floor}Z` }));
    }
    basins.replaceChildren(...parts);
    const wide = (i) => sx(edges[i + 1]) - sx(edges[i]);
    handles.replaceChildren(...edges.slice(0, -1).map((edge, i) =>
      svg("text", { class: "to", x: (sx(edge) + sx(edges[i + 1])) / 2, y: h - 12 }, wide(i) < 60 ? names(i).join("") : `leads to ${names(i).join(" + ")}`)));
  }

  const pegs = [];
  function drawMemories(floor) {
    while (pegs.length > now.m.length) pegs.pop().remove();
    while (pegs.length < now.m.length) pegs.push(peg(pegs.length));
    pegs.forEach((g, i) => {
      set(g, { transform: `translate(${sx(now.m[i])} ${floor + 16})`, "aria-valuenow": now.m[i], "aria-valuetext": `${LETTERS[i]} at ${nice(now.m[i])}` });
      plot.insertBefore(g, marble);
    });
  }

  function peg(i) {
    const g = svg("g", { class: "memory", role: "slider", tabindex: "0", "aria-label": `Memory ${LETTERS[i]}: arrow keys move it`, "aria-valuemin": -REACH, "aria-valuemax": REACH },
      svg("circle", { r: 20, fill: "transparent" }), svg("circle", { class: "amx-ring", r: 15 }), svg("circle", { class: "dot", r: 11 }), svg("text", { y: 4 }, LETTERS[i]));
    const put = (x) => {
      now.m[i] = Number(clamp(x, -REACH, REACH).toFixed(2));
      touched();
      instant();
    };
    draggable(g, (event) => put(unx(local(event))));
    arrows(g, (dx) => put(now.m[i] + 0.05 * dx), release);
    return g;
  }

  const local = (event) => event.clientX - plot.getBoundingClientRect().left;

  /** Where the middle of a ball lies that touches the curve at x, at height e. */
  function resting(x, e) {
    const fall = (gradient(x, now.m, now.beta) * (sy(0) - sy(1))) / (sx(1) - sx(0));
    const length = Math.hypot(1, fall);
    return [sx(x) - (10.5 * fall) / length, sy(e) - 10.5 / length];
  }

  /** Everything that moves while the ball rolls. */
  function drawRide() {
    const last = ride.path.length - 1;
    const t = clamp(moment, 0, last);
    const k = Math.min(Math.floor(t), Math.max(0, last - 1));
    const mix = (list) => (last === 0 ? list[0] : list[k] + (t - k) * (list[k + 1] - list[k]));
    let [x, e] = [mix(ride.path), mix(ride.energies)];
    if (t >= last && ride.left) [x, e] = [ride.path[0], ride.energies[0]]; // back where it can be held
    set(marble, { transform: `translate(${resting(clamp(x, -EDGE - 0.3, EDGE + 0.3), e).join(" ")})`, opacity: Math.abs(x) > EDGE + 0.02 ? 0 : 1, "aria-valuenow": x.toFixed(2), "aria-valuetext": `x\u00a0=\u00a0${nice(x)}, energy ${nice(e)}` });
    const [cx, cy] = resting(ride.path[0], ride.energies[0]);
    set(start, { cx, cy, opacity: t > 0.5 && !(t >= last && ride.left) ? 1 : 0 });
    const shown = Math.floor(t + 1e-9);
    const small = shown > 60 ? 2 : 3;
    const visible = (i) => sy(ride.energies[i]) > 0;
    const upTo = Array.from({ length: shown + 1 }, (_, i) => i).filter(visible);
    trail.replaceChildren(...upTo.map((i) => svg("circle", { cx: sx(ride.path[i]), cy: sy(ride.energies[i]), r: small })));
    dots.replaceChildren(...upTo.map((i) => svg("circle", { cx: st(i), cy: sy(ride.energies[i]), r: small })));
    const line = upTo.map((i) => `${st(i).toFixed(1)},${sy(ride.energies[i]).toFixed(1)}`);
    if (t > shown && sy(e) > 0) line.push(`${st(t).toFixed(1)},${sy(e).toFixed(1)}`);
    trace.setAttribute("d", `M${line.join("L")}`);
    set(level, { x1: sx(clamp(x, -EDGE, EDGE)), x2: st(t), y1: sy(e), y2: sy(e), opacity: sy(e) > 8 ? 1 : 0 });
  }

  const say = () => ui.say(...tell(ride, now.m, now.beta, now.eta));

  /** The whole ride at once, for a hand that is on a slider or a memory. */
  function instant() {
    place();
    moment = ride.path.length - 1;
    drawRide();
    life.later(say, 120);
  }

  /** Show the present settings with the ball at its start. */
  function place() {
    halt();
    measure();
    moment = 0;
    drawLand();
    drawRide();
    controls();
  }

  function release(after = null) {
    halt();
    measure();
    drawLand();
    const last = ride.path.length - 1;
    const pace = Math.min(3600, (now.eta > 1 ? 260 : 110) * last);
    life.film(pace, (t) => {
      moment = last * t;
      drawRide();
    }, say, after);
  }

  // --- hands ---------------------------------------------------------------------------------
  const carry = (x) => {
    now.x = Number(clamp(x, -EDGE + 0.02, EDGE - 0.02).toFixed(2));
    touched();
    place();
  };
  draggable(marble, (event) => carry(unx(local(event))), release);
  draggable(plot, (event) => carry(unx(local(event))), release);
  arrows(marble, (dx) => carry((moment > 0 ? ride.path[0] : now.x) + 0.05 * dx), release);

  const betaSlider = slider({
    name: "beta", label: "β, how sharp", min: 0.3, max: 30, log: true, value: now.beta, format: (v) => nice(v, v < 10 ? 2 : 1),
    input: (v) => { now.beta = v; touched(); instant(); },
  });
  const etaSlider = slider({
    name: "eta", label: "η, step size", min: 0.05, max: 2.5, step: 0.05, value: now.eta, format: (v) => nice(v),
    input: (v) => { now.eta = v; touched(); instant(); },
  });
  const more = node("button", { type: "button", class: "amx-push", onclick: () => crowd(1) }, "+ memory");
  const fewer = node("button", { type: "button", class: "amx-push", onclick: () => crowd(-1) }, "− memory");
  ui.controls.append(betaSlider.root, etaSlider.root);
  ui.row.append(node("button", { type: "button", class: "amx-push", onclick: () => { touched(); release(); } }, "Let go again"), more, fewer);

  function crowd(change) {
    if (change < 0) now.m.pop();
    else now.m.push(widest(now.m));
    touched();
    mergers();
    place();
    release();
  }

  function mergers() {
    betaSlider.mark(mergeBetas(now.m));
  }

  function controls() {
    betaSlider.show(now.beta);
    etaSlider.show(now.eta);
    more.disabled = now.m.length >= 4;
    fewer.disabled = now.m.length <= 2;
    const key = now.m.join();
    if (controls.key !== key) mergers();
    controls.key = key;
  }

  const show = (settings) => () => life.show({ ...START, ...settings });
  tries(ui.hint, "Drag the ball, drag the memories. At a red tick on β valleys merge. Or try", [
    ["a step that is too long", show({ eta: 2.2, x: 1.3 })], ["the very top of a ridge", show({ x: 0 })],
    ["four memories", show({ m: [-1.6, -0.6, 0.3, 1.5], beta: 12, x: -0.1 })]]);

  life.ask({
    asked: { ...START, x: -0.7 },
    question: "A and B are stored at −1 and 1, and β goes down to 0.5. Where will a ball from −0.70 come to rest?",
    answers: [["near", "At A, it is nearer"], ["between", "Between the two"]],
    reply: (key) => `${key === "between" ? "Yes, between them." : "No, between them."} At β\u00a0=\u00a01 the two valleys became one, and its bottom is the average of A and B: a place that nobody stored.`,
    answer(done) {
      life.film(2400, (t) => {
        now.beta = Number((4 * (0.5 / 4) ** t).toPrecision(3));
        measure();
        drawLand();
        drawRide();
        controls();
        ui.say(`β\u00a0=\u00a0${nice(now.beta)}:`, scene.marks.valleys.length > 1 ? "two valleys." : "one valley. They merged at β\u00a0=\u00a01/a²\u00a0=\u00a01.00.");
      }, () => release(done));
    },
  });

  mergers();
  place();
  return life.open({ draw() { drawLand(); drawRide(); }, seen: ui.stage });
}

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

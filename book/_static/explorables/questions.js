import { arrows, choice, clamp, colours, draggable, explorable, nice, node, numberFrom, pen, rgb, set, slider, svg, tries } from "./common.js";

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
const TABLE = "0.2,1.10 0.4,1.02 0.9,1.02 1.2,0.97 1.4,1.30 1.8,1.49 2.1,1.84 2.5,2.15 2.8,2.24 3.3,2.78 3.6,3.08 3.9,3.33 4.1,3.50 4.4,3.65 4.8,3.61 5.1,3.79 5.6,4.09 5.7,4.28 6.3,4.08 6.4,4.15 7.0,4.08 7.1,4.02 7.6,3.68 7.9,3.41 8.2,3.43 8.5,2.85 9.0,2.63 9.2,2.44 9.6,2.33 9.7,2.11 10.3,1.70 10.6,1.46 10.9,1.21 11.2,1.07 11.6,0.82 12.0,1.00 12.1,0.92 12.4,0.88 12.8,0.97 13.1,0.83 13.6,1.14 13.8,1.31 14.1,1.36 14.6,1.98 15.0,2.25 15.2,2.52 15.5,2.67 15.8,2.71 16.2,3.12 16.3,3.20 16.7,3.56 17.3,3.77 17.7,4.12 17.8,4.02 18.0,4.10 18.5,4.06 18.8,4.12 19.2,3.99 19.6,4.00 19.9,3.57 20.1,3.82 20.5,3.27 20.9,3.17 21.0,2.96 21.4,2.63 21.8,2.24 22.1,2.07 22.4,1.86 22.9,1.61 23.3,1.18 23.5,1.12 23.8,1.09";

/** The notebook: pairs of hour and height. */
export const NOTES = TABLE.split(" ").map((pair) => pair.split(",").map(Number));

/** Weights of the notes at (x, y), and the energy there. */
export function look([x, y], { beta, mix }) {
  let top = -Infinity;
  const exponents = NOTES.map(([a, b]) => {
    const e = -0.5 * beta * (mix * (x - a) ** 2 + (1 - mix) * (y - b) ** 2);
    top = Math.max(top, e);
    return e;
  });
  let sum = 0;
  const weights = exponents.map((e) => {
    const w = Math.exp(e - top);
    sum += w;
    return w;
  });
  return { energy: -(top + Math.log(sum)) / beta, weights: weights.map((w) => w / sum) };
}

export const energy = (state, settings) => look(state, settings).energy;

/** One full step: the weighted mean of the notes in what is free. */
export function step([x, y], settings) {
  const { weights } = look([x, y], settings);
  let [hour, height] = [0, 0];
  weights.forEach((w, i) => {
    hour += w * NOTES[i][0];
    height += w * NOTES[i][1];
  });
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

/** The valleys along the free line: places on it, in order; for nothing held, none. */
export function answers(settings) {
  if (settings.ask === "none") return [];
  const along = settings.ask === "x" ? 1 : 0;
  const [low, high] = along ? METRES : [0, HOURS];
  const found = [];
  for (let k = 0; k <= 60; k++) {
    const start = [settings.x, settings.y];
    start[along] = low + ((high - low) * k) / 60;
    const end = descend(settings, start).at(-1)[along];
    if (!found.some((other) => Math.abs(other - end) < 0.01 * (high - low))) found.push(end);
  }
  return found.sort((a, b) => a - b);
}

/** Kernel regression: the mean of the notes near what is held, whatever the rest says. */
export function average(settings) {
  const near = settings.ask === "y" ? ([, b]) => (1 - settings.mix) * (settings.y - b) ** 2 : ([a]) => settings.mix * (settings.x - a) ** 2;
  const exponents = NOTES.map((note) => -0.5 * settings.beta * near(note));
  const top = Math.max(...exponents);
  let [sum, mean] = [0, 0];
  exponents.forEach((e, i) => {
    sum += Math.exp(e - top);
    mean += Math.exp(e - top) * NOTES[i][settings.ask === "y" ? 0 : 1];
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
  const [x, y] = path.at(-1);
  const steps = `${path.length - 1} ${path.length === 2 ? "step" : "steps"}`;
  if (settings.ask === "x") {
    const found = answers(settings);
    const more = found.length > 1 ? `The line has ${found.length} valleys (${found.map(metres).join(", ")}); the start decides.` : "The line has one valley, so the start does not matter.";
    return [`At ${clock(x)} the water stands at ${metres(y)}.`, `${more} The average says ${metres(average(settings))}. ${steps}.`, found.length > 1 ? "" : "good"];
  }
  if (settings.ask === "y") {
    const found = answers(settings);
    const mean = average(settings);
    const there = average({ ...settings, ask: "x", x: mean });
    const wrong = Math.abs(there - y) > 0.5 ? `, when it stands at ${metres(there)}` : "";
    if (found.length === 1) return [`It is ${metres(y)} high at ${clock(x)}.`, `The line has one valley. The average of all answers is ${clock(mean)}${wrong}. ${steps}.`, wrong ? "bad" : ""];
    return [`It is ${metres(y)} high at ${clock(x)}.`, `One of ${found.length} valleys: ${found.map(clock).join(", ")}; drag the start to get another. Their average is ${clock(mean)}${wrong}.`, "good"];
  }
  const moved = Math.hypot((x - settings.x) * Math.sqrt(settings.mix), (y - settings.y) * Math.sqrt(1 - settings.mix)) * Math.sqrt(settings.beta);
  if (moved < 1) return ["This note looks right.", `It moves to ${clock(x)}, ${metres(y)}: less than the width of one note. ${steps}.`, "good"];
  return [`Did you mean ${clock(x)}, ${metres(y)}?`, `Both numbers were free, and both gave way: from ${clock(settings.x)}, ${metres(settings.y)}. ${steps}.`, ""];
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
.amx-questions .plot { position: relative; height: 300px; margin-left: 26px; border: 1px solid var(--amx-line); border-radius: 8px; overflow: hidden; }
.amx-questions .plot > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.amx-questions .plot svg { touch-action: pan-y; cursor: crosshair; }
.amx-questions .frame { position: relative; }
.amx-questions .held { stroke: var(--amx-ink); stroke-width: 2; stroke-dasharray: 6 4; opacity: .7; }
.amx-questions .note { fill: var(--amx-memory); }
.amx-questions .way { fill: none; stroke: var(--amx-trajectory); stroke-width: 3; stroke-linejoin: round; stroke-linecap: round; }
.amx-questions .start { fill: var(--amx-query); stroke: var(--amx-ink); stroke-width: 1.5; }
.amx-questions .end { fill: var(--amx-trajectory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-questions .valley { fill: none; stroke: var(--amx-energy); stroke-width: 2.5; }
.amx-questions .mean { stroke: var(--amx-wrong); stroke-width: 2.5; fill: none; }
.amx-questions .grip { cursor: grab; touch-action: none; }
.amx-questions .slice { fill: none; stroke: var(--amx-energy); stroke-width: 2.5; }
.amx-questions .axis { stroke: var(--amx-line); }
.amx-questions text.mid { text-anchor: middle; }
.amx-questions text.strong { fill: var(--amx-ink); font-weight: 600; }
@media (max-width: 480px) { .amx-questions .plot { height: 230px; } }
`;

/** Put the explorable into `element`; returns a handle with `settings()`, `apply(settings)`, `destroy()`. */
export function mount(element, options = {}) {
  const life = explorable(element, options, {
    name: "questions", title: "One energy, three questions",
    label: "Explorable: a notebook of hours and water heights as an energy in the plane; hold the hour, the height or nothing, and go downhill",
    style: STYLE_QUESTIONS, start: START, settingsFrom, play,
  });
  const { ui, now, touched, soon, halt } = life;
  let path = descend(now);
  let moment = 0; // how much of the way is shown, 0..1

  const land = node("canvas", { role: "img", "aria-label": "Energy of hour and height" });
  const [dots, marks] = [svg("g"), svg("g")];
  const way = svg("path", { class: "way" });
  const grip = svg("g", { class: "grip", role: "slider", tabindex: "0", "aria-label": "Start: arrow keys move it, Enter lets it go", "aria-valuemin": 0, "aria-valuemax": HOURS },
    svg("circle", { r: 20, fill: "transparent" }), svg("circle", { class: "amx-ring", r: 13 }), svg("circle", { class: "start", r: 8 }));
  const end = svg("circle", { class: "end", r: 6 });
  const over = svg("svg", {}, dots, marks, way, end, grip);
  const plot = node("div", { class: "plot" }, land, over);
  const ticks = svg("svg", { "aria-hidden": "true" });
  const slice = svg("svg", { role: "img", "aria-label": "Energy along the free line, or over the steps" });
  ui.stage.append(node("div", { class: "frame" }, plot), ticks, slice);

  let [w, h] = [600, 300];
  const sx = (x) => (x / HOURS) * w;
  const sy = (y) => h - ((y - METRES[0]) / (METRES[1] - METRES[0])) * h;

  function drawLand() {
    [w, h] = [plot.clientWidth, plot.clientHeight];
    if (!w) return;
    const c = colours(ui.root);
    const [nx, ny] = [Math.round(w / 4), Math.round(h / 4)];
    const grid = new Float64Array(nx * ny);
    let low = Infinity;
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) {
        const e = energy([((i + 0.5) / nx) * HOURS, METRES[1] - ((j + 0.5) / ny) * (METRES[1] - METRES[0])], now);
        grid[j * nx + i] = e;
        low = Math.min(low, e);
      }
    }
    const small = set(document.createElement("canvas"), { width: nx, height: ny });
    const image = small.getContext("2d").createImageData(nx, ny);
    const [deep, flat] = [rgb(c.energy), rgb(c.paper)];
    const high = low + 2.2; // everything above looks alike: what matters is near the notes
    for (let p = 0; p < grid.length; p++) {
      const depth = 0.6 * (1 - Math.sqrt(Math.min(1, (grid[p] - low) / (high - low)))) ** 1.1;
      for (let d = 0; d < 3; d++) image.data[4 * p + d] = flat[d] + depth * (deep[d] - flat[d]);
      image.data[4 * p + 3] = 255;
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const context = pen(land, w, h);
    context.imageSmoothingEnabled = true;
    context.drawImage(small, 0, 0, w, h);
    over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    dots.replaceChildren(...NOTES.map(([a, b]) => svg("circle", { class: "note", cx: sx(a), cy: sy(b), r: 2.6 })));
    set(ticks, { viewBox: `0 0 ${w + 26} 32`, style: "height:32px" });
    ticks.replaceChildren(...[0, 6, 12, 18, 24].map((hour) => svg("text", { x: 26 + sx(hour) - (hour === 24 ? 8 : 0), y: 15, class: "mid" }, `${hour}`)),
      svg("text", { x: 26 + w / 2, y: 30, class: "mid strong" }, "hour of the day"),
      ...[1, 2, 3, 4].map((m) => svg("text", { x: 8, y: sy(m) - h + 2, class: "mid" }, `${m}`)), svg("text", { x: 0, y: -h + 12, class: "strong" }, "m"));
  }

  function drawMarks() {
    const held = now.ask === "x" ? [svg("line", { class: "held", x1: sx(now.x), x2: sx(now.x), y1: 0, y2: h })]
      : now.ask === "y" ? [svg("line", { class: "held", x1: 0, x2: w, y1: sy(now.y), y2: sy(now.y) })] : [];
    const rings = answers(now).map((a) => (now.ask === "x" ? [now.x, a] : [a, now.y])).map(([x, y]) => svg("circle", { class: "valley", cx: sx(x), cy: sy(y), r: 11 }));
    const mean = now.ask === "y" ? [[average(now), now.y]] : [];
    marks.replaceChildren(...held, ...rings, ...mean.map(([x, y]) => svg("path", { class: "mean", d: `M${sx(x) - 6},${sy(y) - 6}l12,12m0,-12l-12,12` })));
    set(grip, { transform: `translate(${sx(now.x).toFixed(1)} ${sy(now.y).toFixed(1)})`, "aria-valuenow": now.x, "aria-valuetext": `${clock(now.x)}, ${metres(now.y)}` });
  }

  /** The part of the way that is shown, and the panel below. */
  function drawWay() {
    const t = moment * (path.length - 1);
    const k = Math.floor(t);
    const next = path[Math.min(k + 1, path.length - 1)];
    const here = path[k].map((v, d) => v + (t - k) * (next[d] - v));
    const seen = [...path.slice(0, k + 1), here];
    way.setAttribute("d", `M${seen.map(([x, y]) => `${sx(x).toFixed(1)},${sy(y).toFixed(1)}`).join("L")}`);
    set(end, { cx: sx(here[0]), cy: sy(here[1]) });
    drawSlice(here, t);
  }

  function drawSlice(here, t) {
    const [left, right, top, bottom] = [26, w + 26, 22, 92];
    const along = now.ask === "x" ? 1 : 0;
    const [low, high] = now.ask === "none" ? [0, Math.max(1, path.length - 1)] : along ? METRES : [0, HOURS];
    const at = (u) => energy(now.ask === "x" ? [now.x, u] : [u, now.y], now);
    const places = now.ask === "none" ? path.map((_, i) => i) : Array.from({ length: 161 }, (_, i) => low + ((high - low) * i) / 160);
    const values = now.ask === "none" ? path.map((p) => energy(p, now)) : places.map(at);
    const least = Math.min(...values);
    const range = Math.min(Math.max(...values) - least, now.ask === "none" ? Infinity : 2.5) || 1;
    const px = (u) => left + ((u - low) / (high - low)) * (right - left);
    const py = (e) => bottom - 4 - (Math.min(1, (e - least) / range)) * (bottom - top - 8);
    const dot = now.ask === "none" ? [px(t), py(energy(here, now))] : [px(here[along]), py(at(here[along]))];
    const title = { x: `energy at ${clock(now.x)}, over the height`, y: `energy at ${metres(now.y)}, over the hour`, none: "energy, step by step" }[now.ask];
    set(slice, { viewBox: `0 0 ${w + 26} 98`, style: "height:98px" });
    slice.replaceChildren(svg("text", { x: left, y: 14, class: "strong" }, title),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      svg("path", { class: "slice", d: `M${places.map((u, i) => `${px(u).toFixed(1)},${py(values[i]).toFixed(1)}`).join("L")}` }),
      svg("circle", { class: "end", r: 6, cx: dot[0], cy: dot[1] }));
  }

  function rewind() {
    halt();
    path = descend(now);
    moment = 0;
    betaSlider.show(now.beta);
    mixSlider.show(now.mix);
    ask.show(now.ask);
    drawAll();
  }

  function drawAll() {
    drawLand();
    drawMarks();
    drawWay();
  }

  function play(after = null) {
    rewind();
    life.film(Math.min(2600, 500 + 90 * path.length), (t) => {
      moment = 1 - (1 - t) ** 2;
      drawWay();
    }, () => ui.say(...tell(path, now)), after);
  }

  function put(x, y) {
    now.x = Number(clamp(x, 0, HOURS).toFixed(2));
    now.y = Number(clamp(y, ...METRES).toFixed(2));
    touched();
    halt();
    path = descend(now);
    moment = 0;
    drawMarks();
    drawWay();
  }

  const pointed = (event) => {
    const box = over.getBoundingClientRect();
    put(((event.clientX - box.left) / box.width) * HOURS, METRES[1] - ((event.clientY - box.top) / box.height) * (METRES[1] - METRES[0]));
  };
  draggable(grip, pointed, () => play());
  over.addEventListener("click", (event) => {
    if (event.target.closest(".grip")) return;
    pointed(event);
    play();
  });
  arrows(grip, (dx, dy) => { put(now.x + 0.5 * dx, now.y + 0.1 * dy); soon(); }, () => play());

  const ask = choice({
    name: "ask", label: "Hold still", value: now.ask, options: [["x", "the hour"], ["y", "the height"], ["none", "nothing"]],
    input: (key) => { now.ask = key; touched(); play(); },
  });
  const betaSlider = slider({
    name: "beta", label: "β, how sharp the notes are", min: 0.5, max: 200, log: true, value: now.beta, format: (x) => nice(x, x < 10 ? 1 : 0),
    input: (x) => { now.beta = x; touched(); rewind(); soon(); },
  });
  const mixSlider = slider({
    name: "mix", label: "λ, the say of the hour", min: 0.02, max: 0.98, step: 0.02, value: now.mix, format: (x) => nice(x),
    input: (x) => { now.mix = x; touched(); rewind(); soon(); },
  });
  ui.controls.append(betaSlider.root, mixSlider.root);
  ui.row.append(ask.root, node("button", { type: "button", class: "amx-push", onclick: () => { touched(); play(); } }, "Run again"));
  const go = (settings) => () => life.show({ ...now, ...settings });
  tries(ui.hint, "Drag the orange start, or click anywhere. Or", [
    ["ask for 3 m in the morning", go({ ask: "y", x: 7, y: 3, beta: 10, mix: 0.3 })],
    ["in the evening", go({ ask: "y", x: 19, y: 3, beta: 10, mix: 0.3 })],
    ["mend a slip of the pen", go({ ask: "none", x: 12, y: 3, beta: 10, mix: 0.3 })],
    ["make it too sharp", go({ ask: "none", x: 12, y: 1.4, beta: 150, mix: 0.3 })],
  ]);

  life.ask({
    question: "When is the water 3 m high? It rises and falls twice a day. What will a method say that averages over all notes near 3 m?",
    answers: [["right", "One of the right hours"], ["low", "Some hour at low water"]],
    reply: (key) => `${key === "low" ? "Yes: the vermilion cross." : "No: look for the vermilion cross."} The mean of four right answers is a wrong one. The descent went to one of the four rings instead; where you start decides which.`,
    asked: { ...START, ask: "y", x: 10.5, y: 3 },
  });

  rewind();
  return life.open({ draw: drawAll });
}

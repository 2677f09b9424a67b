import { address, animate, arrows, card, clamp, colours, draggable, nice, node, numberFrom, pen, prediction, random, set, slider, svg, tries, whenLookChanges, whenSeen } from "./common.js";

// The lottery. It must teach: a sample ends at the memory that is nearest to its first noise, and
// from far away only the outermost memories are ever nearest.
//
//   z <- z - eta * 2 (z - sum_mu p_mu xi_mu),   p = softmax_mu(-beta |z - xi_mu|^2),   beta = 30

const NAMES = "ABCDEF";
const START = [[0.95, 0.3], [0.25, 0.97], [-0.85, 0.53], [-0.75, -0.66], [0.5, -0.87], [0.05, 0.05]];
const INITIAL = { sigma: 1, m: START };
const SIGMAS = [0.2, 10];
const SAMPLES = 4000;
const SHOWN = 500;
const BETA = 30;
const ETA = 0.05;

/** Index of the nearest memory. */
export function winner(z, memories) {
  let [best, at] = [Infinity, 0];
  memories.forEach((m, i) => {
    const gap = (z[0] - m[0]) ** 2 + (z[1] - m[1]) ** 2;
    if (gap < best) [best, at] = [gap, i];
  });
  return at;
}

/** One step downhill on EM's energy. */
export function step(z, memories, beta = BETA, eta = ETA) {
  const exponents = memories.map((m) => -beta * ((z[0] - m[0]) ** 2 + (z[1] - m[1]) ** 2));
  const top = Math.max(...exponents);
  const raw = exponents.map((e) => Math.exp(e - top));
  const sum = raw.reduce((a, b) => a + b, 0);
  return [0, 1].map((d) => z[d] - 2 * eta * (z[d] - raw.reduce((s, r, i) => s + r * memories[i][d], 0) / sum));
}

/** Standard normal points, always the same ones. */
export function noise(count = SAMPLES) {
  const dice = random(15);
  return Array.from({ length: count }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(1 - dice())), 2 * Math.PI * dice()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const UNIT = noise();

/** Share of the samples that end at each memory. */
export function shares(memories, sigma) {
  const counts = memories.map(() => 0);
  for (const [x, y] of UNIT) counts[winner([sigma * x, sigma * y], memories)]++;
  return counts.map((c) => c / UNIT.length);
}

/** Which memories are corners of the whole: for very wide noise only these are ever drawn. */
export function corners(memories) {
  return memories.map((m, i) => {
    for (let k = 0; k < 720; k++) {
      const [x, y] = [Math.cos((k * Math.PI) / 360), Math.sin((k * Math.PI) / 360)];
      const others = memories.filter((_, j) => j !== i).map((o) => o[0] * x + o[1] * y);
      if (m[0] * x + m[1] * y > Math.max(...others) + 1e-9) return true;
    }
    return false;
  });
}

export function settingsFrom(given) {
  const s = { sigma: numberFrom(given.sigma, ...SIGMAS, INITIAL.sigma), m: START.map((p) => [...p]) };
  const list = (Array.isArray(given.m) ? given.m.flat() : String(given.m ?? "").split(",")).map(Number);
  if (list.length === 12 && list.every((v) => Number.isFinite(v) && Math.abs(v) <= 1.5)) {
    s.m = START.map((_, i) => [list[2 * i], list[2 * i + 1]]);
  }
  return s;
}

const percent = (q) => (q === 0 ? "never" : q < 0.01 ? `${(100 * q).toFixed(1)} %` : `${Math.round(100 * q)} %`);

/** What the lottery does, in words. */
export function tell(memories, sigma) {
  const found = shares(memories, sigma);
  const corner = corners(memories);
  const inner = [...NAMES].filter((_, i) => !corner[i]);
  const missing = [...NAMES].filter((_, i) => found[i] === 0);
  const most = found.indexOf(Math.max(...found));
  const lead = `${NAMES[most]} is drawn most often, in ${percent(found[most])} of the samples.`;
  if (missing.length) return [lead, `Nothing ends at ${missing.join(", ")}: another memory was nearer to every start.`, "bad"];
  if (inner.length) {
    const rare = inner.map((n) => `${n} in ${percent(found[NAMES.indexOf(n)])}`).join(", ");
    return [lead, `No corner of the whole: ${rare}. Wider noise makes that less.`, ""];
  }
  return [lead, "Every memory is a corner of the whole, and has a wedge of the plane for itself.", "good"];
}

const STYLE_LOTTERY = `
.amx-lottery .board { display: grid; grid-template-columns: minmax(0, 1.6fr) minmax(9rem, 1fr); gap: 1.2rem; align-items: center; }
.amx-lottery .plot { position: relative; aspect-ratio: 1.15; overflow: hidden; border: 1px solid var(--amx-line); border-radius: 8px; }
.amx-lottery .plot > * { position: absolute; inset: 0; height: 100%; }
.amx-lottery .memory { cursor: grab; }
.amx-lottery .memory .dot { fill: var(--amx-memory); stroke: var(--amx-paper); stroke-width: 2; }
.amx-lottery .memory text { fill: var(--amx-paper); font-weight: 700; text-anchor: middle; font-size: 11px; pointer-events: none; }
.amx-lottery .bars { display: grid; grid-template-columns: auto 1fr 3.4rem; gap: .45rem .5rem; align-items: center; }
.amx-lottery .bars u { display: block; height: 10px; border-radius: 5px; background: var(--amx-soft); text-decoration: none; }
.amx-lottery .bars i { display: block; height: 100%; width: 0; border-radius: 5px; background: var(--amx-memory); }
.amx-lottery .bars em { font-style: normal; font-size: .86rem; text-align: right; font-variant-numeric: tabular-nums; }
.amx-lottery .small { font-size: .86rem; color: var(--amx-muted); margin-bottom: .6rem; }
@media (max-width: 480px) { .amx-lottery .board { grid-template-columns: 1fr; } }
`;

export function mount(element, options = {}) {
  const ui = card(element, {
    name: "lottery", title: "The lottery", still: options.still,
    label: "Explorable: six memories in the plane and the noise from which samples start",
    reset: () => begin(INITIAL, true),
  });
  ui.root.classList.add("amx-lottery");
  ui.root.prepend(node("style", {}, STYLE_LOTTERY));
  const link = address("lottery", ui.root, (given) => begin(settingsFrom(given), false));
  let now = settingsFrom({ ...(options.settings ?? {}), ...(link.given ?? {}) });
  let stop = () => {};
  let walks = UNIT.slice(0, SHOWN).map((z) => [z]);
  let moment = 0;

  const land = node("canvas", { role: "img", "aria-label": "Starts of samples; lines part the places that belong to different memories" });
  const over = svg("svg", {});
  const plot = node("div", { class: "plot" }, land, over);
  const bars = node("div", { class: "bars", "aria-hidden": "true" });
  const rows = START.map((_, i) => {
    const [bar, share] = [node("i"), node("em")];
    bars.append(node("b", {}, NAMES[i]), node("u", {}, bar), share);
    return { bar, share };
  });
  ui.stage.append(node("div", { class: "board" }, plot,
    node("div", {}, node("p", { class: "small" }, "Where 4 000 samples end"), bars)));

  let [w, h] = [400, 350];
  const half = () => Math.max(1.5, 1.5 * Math.min(now.sigma, 3));
  const sx = (x) => w / 2 + (x / half()) * (h / 2);
  const sy = (y) => h / 2 - (y / half()) * (h / 2);
  const pegs = START.map((_, i) => {
    const g = svg("g", { class: "memory", role: "slider", tabindex: "0", "aria-roledescription": "point", "aria-label": `Memory ${NAMES[i]}: arrow keys move it`, "aria-valuemin": -1.5, "aria-valuemax": 1.5 },
      svg("circle", { r: 17, fill: "transparent" }), svg("circle", { class: "amx-ring", r: 13 }), svg("circle", { class: "dot", r: 9 }), svg("text", { y: 4 }, NAMES[i]));
    over.append(g);
    const to = (x, y) => {
      halt();
      now.m[i] = [x, y].map((v) => Number(clamp(v, -1.5, 1.5).toFixed(3)));
      all();
      link.write(now);
    };
    draggable(g, (event) => {
      const box = over.getBoundingClientRect();
      to(((event.clientX - box.left - w / 2) / (h / 2)) * half(), ((h / 2 - (event.clientY - box.top)) / (h / 2)) * half());
    });
    arrows(g, (dx, dy) => to(now.m[i][0] + 0.05 * dx, now.m[i][1] + 0.05 * dy));
    return g;
  });

  const width = slider({
    name: "sigma", label: "width σ of the noise (1: as far out as the memories)", min: SIGMAS[0], max: SIGMAS[1], value: now.sigma, log: true,
    format: (v) => nice(v),
    input: (v) => { halt(); now.sigma = v; all(); link.write(now); },
  });
  ui.controls.append(width.root);
  const go = node("button", { type: "button", class: "amx-push", onclick: () => release() }, "Let them go downhill");
  ui.row.append(go);

  /** Stop what runs and put the dots back to their starts. */
  function halt() {
    stop();
    guess.cancel();
    moment = 0;
  }

  function walk() {
    walks = UNIT.slice(0, SHOWN).map(([x, y]) => {
      const film = [[now.sigma * x, now.sigma * y]];
      for (let t = 0; t < 60; t++) film.push(step(film[t], now.m));
      return film;
    });
  }

  function draw() {
    w = plot.clientWidth;
    h = plot.clientHeight;
    if (!w) return;
    const c = colours(ui.root);
    const context = pen(land, w, h);
    border(context, c);
    context.fillStyle = c.query;
    context.globalAlpha = 0.75;
    const at = Math.min(60, Math.floor(moment));
    for (const film of walks) {
      const [x, y] = film[Math.min(at, film.length - 1)];
      context.beginPath();
      context.arc(sx(x), sy(y), 2, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    over.setAttribute("viewBox", `0 0 ${w} ${h}`);
    pegs.forEach((g, i) => {
      const [x, y] = now.m[i];
      set(g, { transform: `translate(${sx(x).toFixed(2)} ${sy(y).toFixed(2)})`, "aria-valuenow": x, "aria-valuetext": `at ${nice(x)}, ${nice(y)}` });
    });
  }

  /** Lines where two memories are equally near, found on a grid. */
  function border(context, c) {
    const size = 3;
    const owner = (i, j) => winner([((i * size - w / 2) / (h / 2)) * half(), ((h / 2 - j * size) / (h / 2)) * half()], now.m);
    context.fillStyle = c.muted;
    let above = [];
    for (let j = 0; j * size < h; j++) {
      const line = [];
      for (let i = 0; i * size < w; i++) {
        line.push(owner(i, j));
        if ((i && line[i] !== line[i - 1]) || (j && line[i] !== above[i])) context.fillRect(i * size - 1, j * size - 1, 1.6, 1.6);
      }
      above = line;
    }
  }

  function count() {
    const found = shares(now.m, now.sigma);
    rows.forEach(({ bar, share }, i) => {
      bar.style.width = `${(100 * found[i]).toFixed(1)}%`;
      share.textContent = percent(found[i]);
    });
  }

  /** Everything that follows from the settings. */
  function all() {
    walk();
    count();
    draw();
    ui.say(...tell(now.m, now.sigma));
  }

  function release(done = () => {}) {
    halt();
    walk();
    count();
    ui.say(...tell(now.m, now.sigma));
    stop = animate(2200, (t) => { moment = 60 * t; draw(); }, done);
  }

  function begin(settings, fresh) {
    halt();
    now = settingsFrom(settings);
    width.show(now.sigma);
    if (fresh) {
      link.clear();
      guess.reset();
    }
    all();
  }

  const show = (settings) => () => {
    begin({ ...INITIAL, ...settings }, false);
    link.write(now);
    release();
  };
  const inside = START.map(([x, y], i) => (i === 0 ? [0.4 * x, 0.4 * y] : [x, y]));
  tries(ui.hint, "Drag the memories. Or try", [["noise from far away", show({ sigma: 10 })],
    ["one short memory more", show({ sigma: 3, m: inside })], ["one long memory", show({ sigma: 3, m: [[1.45, 0.4], ...START.slice(1)] })]]);

  const guess = prediction(ui.ask, {
    question: "F lies in the middle of the others. The noise gets ten times wider. Will F be drawn more often, or less?",
    answers: [["more", "More often"], ["less", "Less often"]],
    reply: (key) => `${key === "less" ? "Yes, less often." : "Less often."} F is nearest only in a small cell around the middle, and wide noise hardly ever starts there. The others have wedges that never end.`,
    play: (key, done) => {
      stop();
      now = settingsFrom(INITIAL);
      moment = 0;
      stop = animate(2600, (t) => {
        now.sigma = Number((INITIAL.sigma * 10 ** t).toPrecision(3));
        width.show(now.sigma);
        all();
      }, () => { link.write(now); done(); });
    },
  });

  all();
  const unlook = whenLookChanges(plot, draw);
  const unseen = options.still ? () => {} : whenSeen(ui.stage, () => release());
  return {
    settings: () => ({ sigma: now.sigma, m: now.m.map((p) => [...p]) }),
    apply: (settings) => begin({ ...now, ...settings }, false),
    destroy() {
      stop();
      unlook();
      unseen();
      link.forget();
      element.replaceChildren();
    },
  };
}

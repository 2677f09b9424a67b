// What the explorables share: a card, sliders, a question asked before its answer, colours that
// follow the page, settings in the address, and the life of it all (`explorable`, at the end).
// No dependency; nothing here knows about memories.

const STYLE = `
.amx {
  --amx-memory: #0072B2; --amx-query: #C98400; --amx-trajectory: #CC79A7;
  --amx-energy: #009E73; --amx-wrong: #A82A00;
  --amx-ink: var(--pst-color-text-base, #222832); --amx-muted: var(--pst-color-text-muted, #48566b);
  --amx-paper: var(--pst-color-background, #fff); --amx-soft: var(--pst-color-surface, #f3f4f5);
  --amx-line: var(--pst-color-border, #d1d5da); --amx-halo: rgba(0, 114, 178, .45);
  --amx-edge: color-mix(in srgb, var(--amx-muted) 45%, var(--amx-paper));
  box-sizing: border-box; margin: 1.6rem 0; padding: 1rem 1.1rem .9rem; color: var(--amx-ink);
  background: var(--amx-paper); border: 1px solid var(--amx-line); border-radius: 12px;
  font-size: .92rem; line-height: 1.45; text-align: left; scroll-margin-top: 5rem;
  -webkit-tap-highlight-color: transparent;
}
html[data-theme="dark"] .amx {
  --amx-memory: #42B4F4; --amx-query: #D99A2B; --amx-trajectory: #CC6FA6;
  --amx-energy: #1FBF93; --amx-wrong: #FF8D66;
  --amx-ink: var(--pst-color-text-base, #ced6dd); --amx-muted: var(--pst-color-text-muted, #9ca4af);
  --amx-paper: var(--pst-color-background, #14181e); --amx-soft: var(--pst-color-surface, #29313d);
  --amx-line: var(--pst-color-border, #48566b); --amx-halo: rgba(86, 180, 233, .55);
}
.amx *, .amx *::before, .amx *::after { box-sizing: border-box; }
.amx p { margin: 0; }
.amx svg, .amx canvas { display: block; width: 100%; max-width: none; background: none; overflow: visible; }
.amx svg text { font-family: inherit; font-size: 12px; fill: var(--amx-muted); }
.amx-head { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; }
.amx .amx-title { font-weight: 650; font-size: 1.02rem; }
.amx .amx-reset { flex: none; }
.amx button { font: inherit; color: inherit; background: none; border: 0; margin: 0; cursor: pointer; touch-action: manipulation; }
.amx .amx-quiet { padding: .3rem .1rem; min-height: 28px; color: var(--amx-muted); font-size: .86rem; text-decoration: underline;
  text-decoration-color: var(--amx-edge); text-underline-offset: 3px; }
.amx .amx-quiet:hover { color: var(--amx-ink); text-decoration-color: currentColor; }
.amx .amx-push { padding: .32rem .8rem; min-height: 34px; border: 1px solid var(--amx-edge); border-radius: 999px; background: var(--amx-paper); }
.amx .amx-push:hover { border-color: var(--amx-memory); }
.amx .amx-push:disabled { opacity: .45; cursor: default; border-color: var(--amx-line); }
.amx :focus { outline: none; }
.amx button:focus-visible, .amx canvas:focus-visible, .amx [role="slider"]:focus-visible { outline: 3px solid var(--amx-halo); outline-offset: 2px; border-radius: 8px; }
.amx svg [role="slider"]:focus-visible { outline: none; }
.amx svg [role="slider"] .amx-ring { fill: none; stroke: none; }
.amx svg [role="slider"]:focus-visible .amx-ring { stroke: var(--amx-halo); stroke-width: 4px; }
.amx-ask { display: grid; margin: .7rem 0 .9rem; padding: .6rem .8rem; background: var(--amx-soft); border-radius: 8px; align-items: center; }
.amx-ask > * { grid-area: 1 / 1; visibility: hidden; }
.amx-ask > .amx-on { visibility: visible; }
.amx-question { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; justify-content: space-between; }
.amx-question > p { flex: 1 1 17rem; }
.amx-answers { display: flex; flex-wrap: wrap; gap: .45rem; }
.amx-say { margin: .8rem 0 .2rem; min-height: 4.4em; }
.amx-say p { padding-left: .75rem; border-left: 3px solid var(--amx-line); }
.amx-say p[data-kind="good"] { border-color: var(--amx-energy); }
.amx-say p[data-kind="bad"] { border-color: var(--amx-wrong); }
.amx-say b { font-weight: 650; }
.amx-controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(225px, 1fr)); gap: .5rem 1.8rem; margin-top: .8rem; }
.amx-row { display: flex; flex-wrap: wrap; gap: .45rem .6rem; align-items: center; margin-top: .6rem; }
.amx-slider { display: block; position: relative; min-width: 0; }
.amx-slider .amx-name { display: flex; justify-content: space-between; gap: .6rem; font-size: .88rem; }
.amx-slider output { font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; padding: 0; margin: 0; border: 0; }
.amx input[type="range"] { -webkit-appearance: none; appearance: none; display: block; width: 100%; height: 30px; margin: 0; padding: 0;
  background: none; cursor: pointer; touch-action: pan-y; }
.amx input[type="range"]::-webkit-slider-runnable-track { height: 4px; border-radius: 2px; background: var(--amx-edge); }
.amx input[type="range"]::-moz-range-track { height: 4px; border-radius: 2px; background: var(--amx-edge); }
.amx input[type="range"]::-webkit-slider-thumb { -webkit-appearance: none; width: 20px; height: 20px; margin-top: -8px; border-radius: 50%;
  background: var(--amx-memory); border: 3px solid var(--amx-paper); box-shadow: 0 0 0 1px var(--amx-memory); }
.amx input[type="range"]::-moz-range-thumb { width: 14px; height: 14px; border-radius: 50%; background: var(--amx-memory);
  border: 3px solid var(--amx-paper); box-shadow: 0 0 0 1px var(--amx-memory); }
.amx input[type="range"]:focus-visible::-webkit-slider-thumb { box-shadow: 0 0 0 4px var(--amx-halo); }
.amx input[type="range"]:focus-visible::-moz-range-thumb { box-shadow: 0 0 0 4px var(--amx-halo); }
.amx-mark { position: absolute; bottom: 7px; width: 2px; height: 16px; margin-left: -1px; background: var(--amx-wrong); border-radius: 1px; pointer-events: none; }
.amx-choice { border: 0; margin: 0; padding: 0; min-width: 0; }
.amx-choice legend { float: none; width: auto; font-size: .88rem; line-height: inherit; padding: 0; margin: 0 0 .2rem; color: inherit; border: 0; }
.amx-choice legend:empty { display: none; }
.amx-choice div { display: inline-flex; border: 1px solid var(--amx-edge); border-radius: 8px; overflow: hidden; }
.amx-choice label { position: relative; margin: 0; cursor: pointer; }
.amx-choice input { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0; margin: 0; cursor: pointer; }
.amx-choice span { display: block; padding: .3rem .75rem; min-height: 32px; }
.amx-choice label + label span { border-left: 1px solid var(--amx-edge); }
.amx-choice input:checked + span { background: var(--amx-memory); color: var(--amx-paper); }
.amx-choice input:focus-visible + span { box-shadow: inset 0 0 0 3px var(--amx-halo); }
.amx-try { margin-top: .55rem !important; font-size: .86rem; color: var(--amx-muted); }
.amx-try span { white-space: nowrap; }
.amx-try .amx-quiet { display: inline; min-height: 0; padding: .2rem 0 !important; }
.amx-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.amx[data-still] { border: 0; margin: 0; }
.amx[data-still] .amx-live { display: none; }
.amx[data-still] .amx-say { min-height: 0; }
@media (max-width: 480px) {
  .amx { padding: .85rem .8rem .7rem; }
  .amx-say { min-height: 5.8em; }
}
`;

/** Make an element: `node("p", {class: "x", onclick: f}, "text", child)`. */
export function node(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Set attributes on an element that exists already. */
export function set(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

/** A number as people write it: three figures, a true minus sign, no tail of zeros. */
export function nice(x, digits = 2) {
  const text = Math.abs(x) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : x.toFixed(digits);
  return text.replace("-", "−");
}

/** Random numbers in [0, 1) that are the same for the same seed everywhere (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The numbers 0..n-1 in an order that depends on `dice` alone. */
export function shuffled(n, dice) {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(dice() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

export function reducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Call `frame(t)` with t from 0 to 1, then `done()`; at once where motion is unwelcome. */
export function animate(milliseconds, frame, done = () => {}) {
  if (reducedMotion() || milliseconds <= 0) {
    frame(1);
    done();
    return () => {};
  }
  let request = 0;
  let began = null;
  const tick = (now) => {
    began ??= now;
    const t = Math.min(1, (now - began) / milliseconds);
    frame(t);
    if (t < 1) request = requestAnimationFrame(tick);
    else done();
  };
  request = requestAnimationFrame(tick);
  return () => cancelAnimationFrame(request);
}

/** Call `start` once, when the element is first seen. */
export function whenSeen(element, start) {
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    start();
  }, { threshold: 0.25 });
  watch.observe(element);
  return () => watch.disconnect();
}

/** Call `draw` when the element changes its width, and when the page changes its theme. */
export function whenLookChanges(element, draw) {
  let width = -1;
  const size = new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    draw();
  });
  size.observe(element);
  const theme = new MutationObserver(draw);
  theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return () => {
    size.disconnect();
    theme.disconnect();
  };
}

/** The palette as the page shows it now, for canvases. */
export function colours(element) {
  const style = getComputedStyle(element);
  const names = ["memory", "query", "trajectory", "energy", "wrong", "ink", "muted", "paper", "soft", "line"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--amx-${name}`).trim()]));
}

/** "#rrggbb" as [r, g, b]; other notations are read by the browser. */
export function rgb(colour) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** Give a canvas as many pixels as its place on this screen has; returns a pen in page pixels. */
export function pen(canvas, width, height) {
  const scale = Math.min(3, window.devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Drag by mouse, finger or pen: `move(event)` for the press and each move, then `end(event)`. */
export function draggable(element, move, end = () => {}) {
  let held = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = event.pointerId;
    element.setPointerCapture(held);
    event.stopPropagation();
    move(event, true);
  });
  element.addEventListener("pointermove", (event) => {
    if (event.pointerId === held) move(event, false);
  });
  const release = (event) => {
    if (event.pointerId !== held) return;
    held = null;
    end(event);
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
}

/** Move something by the arrow keys (finer with Shift, Home and End far); `go()` on Enter or Space. */
export function arrows(element, move, go = null) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], Home: [-1e3, 0], End: [1e3, 0] };
  element.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const way = ways[event.key];
    if (way) move(way[0] * (event.shiftKey ? 0.2 : 1), way[1] * (event.shiftKey ? 0.2 : 1));
    else if (go && (event.key === "Enter" || event.key === " ")) go();
    else return;
    event.preventDefault();
  });
}

/**
 * The card: title and Reset on top, a place for pictures, what happened in words, controls.
 * `still` leaves only picture and words, for the picture shown where there are no scripts.
 */
export function card(element, { name, title, label, still = false, reset }) {
  if (!document.getElementById("amx-style")) {
    document.head.append(node("style", { id: "amx-style" }, STYLE));
  }
  const stage = node("div", { class: "amx-stage" });
  const words = node("p");
  const say = node("div", { class: "amx-say", role: "status", "aria-live": "polite" }, words);
  const controls = node("div", { class: "amx-controls amx-live" });
  const row = node("div", { class: "amx-row amx-live" });
  const hint = node("p", { class: "amx-try amx-live" });
  const ask = node("div", { class: "amx-ask amx-live" });
  const head = node("div", { class: "amx-head amx-live" },
    node("p", { class: "amx-title" }, title),
    node("button", { type: "button", class: "amx-quiet amx-reset", onclick: reset }, "Reset"));
  const under = node("div", { class: "amx-under" });
  const root = node("div", { class: "amx", role: "group", "aria-label": label, "data-explorable": name, "data-still": still },
    head, ask, stage, say, under, controls, row, hint);
  element.replaceChildren(root);
  return {
    root, stage, under, controls, row, hint, ask,
    /** Say what happened: a short bold lead, the rest, and whether it went well. */
    say(lead, rest = "", kind = "") {
      if (words.textContent === `${lead} ${rest}` && words.dataset.kind === kind) return;
      words.dataset.kind = kind;
      words.replaceChildren(node("b", {}, lead), ` ${rest}`);
    },
  };
}

/** A labelled slider; `log` spaces its values by ratio. `input(value)` while it moves. */
export function slider({ name, label, min, max, step, value, log = false, format, input, change = () => {} }) {
  const steps = 200;
  const place = (v) => (log ? (steps * Math.log(v / min)) / Math.log(max / min) : v);
  const read = (p) => (log ? Number((min * (max / min) ** (p / steps)).toPrecision(3)) : Number(p));
  const id = `amx-${name}-${Math.random().toString(36).slice(2, 8)}`;
  const range = node("input", { type: "range", id, "data-name": name, min: log ? 0 : min, max: log ? steps : max, step: log ? 1 : step });
  const shown = node("output", { for: id });
  const root = node("div", { class: "amx-slider" },
    node("label", { class: "amx-name", for: id, style: "margin:0" }, node("span", {}, label), shown), range);
  const show = (v) => {
    shown.textContent = format(v);
    range.setAttribute("aria-valuetext", format(v));
  };
  let marks = [];
  range.addEventListener("input", () => {
    const v = read(Number(range.value));
    show(v);
    input(v);
  });
  range.addEventListener("change", () => change(read(Number(range.value))));
  const control = {
    root,
    range,
    show(v) {
      range.value = place(v);
      show(v);
    },
    /** Fine red ticks on the track, where something happens. */
    mark(values) {
      for (const old of marks) old.remove();
      marks = values.filter((v) => v >= min && v <= max).map((v) => {
        const share = (place(v) - place(min)) / (place(max) - place(min));
        return node("i", { class: "amx-mark", "aria-hidden": "true", style: `left:calc(10px + ${share.toFixed(4)} * (100% - 20px))` });
      });
      root.append(...marks);
    },
  };
  control.show(value);
  return control;
}

/** A few named options, one of them chosen (radio buttons that look like a strip). */
export function choice({ name, label, options, value, input }) {
  const group = `amx-${name}-${Math.random().toString(36).slice(2, 8)}`;
  const radios = options.map(([key, text]) => {
    const radio = node("input", { type: "radio", name: group, value: key, "data-name": name, onchange: () => input(key) });
    return { key, radio, label: node("label", {}, radio, node("span", {}, text)) };
  });
  const root = node("fieldset", { class: "amx-choice" }, node("legend", {}, label),
    node("div", {}, ...radios.map((r) => r.label)));
  const show = (v) => radios.forEach((r) => { r.radio.checked = r.key === v; });
  show(value);
  return { root, show };
}

/**
 * A question with its answers as buttons. `play(key, done)` runs the experiment and calls done;
 * then the reply is shown. All texts share one place, so nothing on the page moves.
 */
export function prediction(place, { question, answers, reply, play }) {
  const buttons = answers.map(([key, text]) =>
    node("button", { type: "button", class: "amx-push", "data-answer": key, onclick: () => answer(key) }, text));
  const first = node("div", { class: "amx-question" },
    node("p", {}, node("b", {}, "First, your guess. "), question), node("div", { class: "amx-answers" }, ...buttons));
  const watching = node("p", {}, "Watch.");
  const replies = Object.fromEntries(answers.map(([key]) => [key, node("div", { class: "amx-question", tabindex: "-1" },
    node("p", {}, reply(key)), node("button", { type: "button", class: "amx-quiet", onclick: () => show(first) }, "Ask me again"))]));
  let turn = 0;
  const show = (what) => {
    for (const child of place.children) child.classList.toggle("amx-on", child === what);
  };
  const answer = (key) => {
    const mine = ++turn;
    show(watching);
    play(key, () => {
      if (mine !== turn) return;
      show(replies[key]);
      if (document.activeElement === document.body) replies[key].focus({ preventScroll: true });
    });
  };
  place.setAttribute("aria-live", "polite");
  place.replaceChildren(first, watching, ...Object.values(replies));
  show(first);
  return {
    reset() {
      turn++;
      show(first);
    },
    /** Somebody took the wheel while the answer played: show the question again. */
    cancel() {
      if (watching.classList.contains("amx-on")) this.reset();
    },
  };
}

/** The settings of `#name?beta=3&x=0.4` as an object of texts; null for any other address. */
export function readHash(name, hash = location.hash) {
  const start = `#${name}?`;
  if (!hash.startsWith(start)) return null;
  return Object.fromEntries(new URLSearchParams(hash.slice(start.length)));
}

/** The address part for some settings: values are numbers, words or lists of numbers. */
export function formHash(name, settings) {
  const parts = Object.entries(settings).map(([key, value]) => `${key}=${Array.isArray(value) ? value.join(",") : value}`);
  return `#${name}?${parts.join("&")}`;
}

/** Fill the last line of a card: what hands can do, then experiments to try, each a button. */
export function tries(place, intro, list) {
  const items = list.map(([label, onclick], i) => node("span", {},
    node("button", { type: "button", class: "amx-quiet", onclick }, label), i + 1 < list.length ? ", " : "."));
  place.replaceChildren(intro, ...items.flatMap((item) => [" ", item]));
}

/** A number from an address, or `otherwise` when it is missing, no number or out of range. */
export function numberFrom(text, low, high, otherwise) {
  const x = Number(text);
  return text == null || text === "" || !Number.isFinite(x) || x < low || x > high ? otherwise : x;
}

/**
 * Settings in the address. Nothing is written before the first touch (so that links to headings
 * stay what they are), and then in place: the Back button is never filled with slider moves.
 */
export function address(name, root, apply) {
  let timer = 0;
  const listen = () => {
    const settings = readHash(name);
    if (!settings) return;
    root.scrollIntoView({ block: "nearest" });
    apply(settings);
  };
  addEventListener("hashchange", listen);
  const given = readHash(name);
  if (given) requestAnimationFrame(() => root.scrollIntoView({ block: "start" }));
  return {
    given,
    write(settings) {
      clearTimeout(timer);
      timer = setTimeout(() => replace(formHash(name, settings)), 150);
    },
    clear() {
      clearTimeout(timer);
      if (readHash(name)) replace(location.pathname + location.search);
    },
    forget() {
      clearTimeout(timer);
      removeEventListener("hashchange", listen);
    },
  };
}

function replace(url) {
  try {
    history.replaceState(history.state, "", url);
  } catch {
    // A page inside a sandboxed frame may not touch its address; the explorable works without.
  }
}

/**
 * The life of an explorable, from its card to `destroy()`: settings that come from the address and
 * go back there, one film at a time, the question, the first play when somebody sees it.
 *
 * `settingsFrom(given)` makes settings out of anything; `start` are those of Reset.
 * `play(after)` shows the present settings from the beginning, by `film`.
 * `anew()` is called when all settings were replaced, before they play.
 * `shared(now)` is what the address keeps; `patience` the milliseconds from the last key to a film.
 */
export function explorable(element, options, {
  name, title, label, style, start, settingsFrom, play, anew = () => {}, shared = (now) => now, patience = 350,
}) {
  const ui = card(element, { name, title, label, still: options.still, reset: () => begin(start, true) });
  ui.root.classList.add(`amx-${name}`);
  ui.root.prepend(node("style", {}, style));
  const link = address(name, ui.root, (given) => begin(given, false));
  const now = settingsFrom({ ...(options.settings ?? {}), ...(link.given ?? {}) });
  let stop = () => {};
  let timer = 0;
  let guess = null;

  function replaceAll(settings) {
    Object.assign(now, settingsFrom(settings));
    anew();
  }

  function begin(settings, clear) {
    replaceAll(settings);
    guess.reset();
    if (clear) link.clear();
    play();
  }

  const life = {
    ui,
    /** The settings, one object for the whole life: change it in place, then `touched()`. */
    now,
    /** A hand changed something: the address follows, and an answer that is playing is off. */
    touched() {
      guess.cancel();
      link.write(shared(now));
    },
    /** End the film, and drop what was to come later. */
    halt() {
      stop();
      clearTimeout(timer);
    },
    /** Do this later, unless something else happens first. */
    later(action, milliseconds) {
      clearTimeout(timer);
      timer = setTimeout(action, milliseconds);
    },
    /** Play when the keys have been quiet for a while. */
    soon() {
      life.later(() => play(), patience);
    },
    /** `halt` ends what runs now by `how`. */
    running(how) {
      stop = how;
    },
    /** Frames with t from 0 to 1, then `end()`, then `after` where it is something to call. */
    film(milliseconds, frame, end, after = null) {
      stop = animate(milliseconds, frame, () => {
        end();
        if (typeof after === "function") after();
      });
    },
    /** Other settings by a hand: they go to the address and play. */
    show(settings) {
      replaceAll(settings);
      life.touched();
      play();
    },
    /** A question (see `prediction`), answered by `answer(done)` with the settings `asked`. */
    ask({ asked, answer = play, ...texts }) {
      guess = prediction(ui.ask, {
        ...texts,
        play: (key, done) => {
          replaceAll(asked);
          link.write(shared(now));
          answer(done);
        },
      });
    },
    /**
     * The last thing of a `mount`: `draw` follows the look of `watched`, the first play waits until
     * `seen` is seen, `close` drops what the explorable holds itself. Returns the handle.
     */
    open({ draw, watched = ui.stage, seen = ui.root, close = () => {} }) {
      const unlook = whenLookChanges(watched, draw);
      const unseen = options.still ? (play(), () => {}) : whenSeen(seen, () => play());
      return {
        settings: () => structuredClone(now),
        apply: (settings) => begin({ ...now, ...settings }, false),
        destroy() {
          life.halt();
          close();
          unlook();
          unseen();
          link.forget();
          element.replaceChildren();
        },
      };
    },
  };
  return life;
}

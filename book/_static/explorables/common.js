// What the explorables share. Nothing here knows about memories, and nothing comes from outside.
//
// To write a new one (ball.js is the shortest to read):
//  1. `NAME.js` beside this file. First the mathematics: small exported functions of plain numbers, no
//     DOM in them. A test in tests/site compares each with the library's.
//  2. `settingsFrom(given)` makes settings out of anything (an address, nothing, nonsense), and
//     `tell(result, settings)` returns [lead, rest, kind] about the state that the picture shows.
//  3. `mount(element, options)` calls `explorable(...)` below. It keeps the settings in the address, plays
//     when first seen, pauses when out of sight, and empties the sentence when something starts to move.
//     From it come `life.now` (the settings), `life.touched()`, `life.halt()`, `life.film(...)`,
//     `life.say(...)`, `life.ask(...)`; the last thing is `return life.open({ draw, state })`.
//  4. A slider changes `life.now`, calls `life.touched()`, then shows the result at once and says it, or
//     shows the start and calls `life.soon()`. No sentence outlives the picture it was about.
//  5. `state()` returns the numbers that the picture shows; the tests compare the sentence with them.
//  6. A class for the picture, each method below 60 lines (`make test` runs ESLint and Prettier).
//     landscape.js has heat maps, contours, planes and points to drag; `legend` sets a legend that fits.
//  7. No colour but the palette of style.js. Every handle is a `slider` by role, with a name and arrow
//     keys. It fits 320 pixels. The tests for all explorables take the new one up by themselves.
//  8. The picture for readers without scripts: a line in MOMENTS of tools/explorable_fallbacks.py, run it.
//     In the chapter: `:::{explorable} NAME`. Under 100 kB with all it imports; see `bundle` in
//     book/_ext/amtutor_site.py for the few ways of import and export that it can pour into a page.

import { STYLE } from "./style.js";

// ------------------------------------------------------------------------------------------ elements

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

/** Give an SVG picture its size in page pixels. */
export function size(plot, width, height) {
  return set(plot, { width, height, viewBox: `0 0 ${width} ${height}`, style: `height:${height}px` });
}

/** The `d` of a line through [[x, y], ...]. */
export function line(points) {
  return points.length ? `M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L")}` : "";
}

/**
 * A legend of lines, [[class, text], ...], in as many columns as have room: {root, height}.
 * `top` is the baseline of its first row.
 */
export function legend(entries, { left, top, width, most = entries.length }) {
  const longest = Math.max(...entries.map(([, text]) => text.length));
  const columns = clamp(Math.floor(width / (30 + 6.6 * longest)), 1, most);
  const root = svg("g", {});
  entries.forEach(([key, text], i) => {
    const x = left + (i % columns) * (width / columns);
    const y = top + 17 * Math.floor(i / columns);
    root.append(svg("path", { class: key, d: `M${x},${y - 4}h17` }), svg("text", { x: x + 22, y }, text));
  });
  return { root, height: 17 * Math.ceil(entries.length / columns) };
}

// ------------------------------------------------------------------------------------------- numbers

export function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

/** A number as people write it: so many digits, a true minus sign, no minus before zero. */
export function nice(x, digits = 2) {
  const text = Math.abs(x) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : x.toFixed(digits);
  return text.replace("-", "−");
}

/** "A", "A and B", "A, B and C". */
export function join(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
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

/** A number from an address, or `otherwise` when it is missing, no number or out of range. */
export function numberFrom(text, low, high, otherwise) {
  const x = Number(text);
  return text == null || text === "" || !Number.isFinite(x) || x < low || x > high ? otherwise : x;
}

/** A list of numbers from "1,2,3" or from (nested) arrays; null where nothing is given. */
export function numbersFrom(given) {
  if (given == null) return null;
  return (Array.isArray(given) ? given.flat() : String(given).split(",")).map(Number);
}

// --------------------------------------------------------------------------------- the page around it

export function reducedMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Call `start` once, when the element is first seen. */
function whenSeen(element, start) {
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      start();
    },
    { threshold: 0.25 },
  );
  watch.observe(element);
  return () => watch.disconnect();
}

/** Call `change(yes)` when the element leaves the screen or its tab is hidden, and when it is back. */
function whenAwake(element, change) {
  let near = true;
  const look = () => change(near && document.visibilityState !== "hidden");
  const watch = new IntersectionObserver((entries) => {
    near = entries.at(-1).isIntersecting;
    look();
  });
  watch.observe(element);
  document.addEventListener("visibilitychange", look);
  return () => {
    watch.disconnect();
    document.removeEventListener("visibilitychange", look);
  };
}

/** Call `draw` when the element changes its width, and when the page changes its theme. */
function whenLookChanges(element, draw) {
  let width = -1;
  const resized = new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    draw();
  });
  resized.observe(element);
  const theme = new MutationObserver(draw);
  theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  return () => {
    resized.disconnect();
    theme.disconnect();
  };
}

const HUES = "memory query trajectory energy wrong ink muted paper soft line".split(" ");

/** The palette as the page shows it now, for canvases. */
export function colours(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(HUES.map((name) => [name, style.getPropertyValue(`--amx-${name}`).trim()]));
}

/** "#rrggbb" as [r, g, b]; other notations are read by the browser. */
export function rgb(colour) {
  const plain = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(colour);
  if (plain) return plain.slice(1).map((part) => parseInt(part, 16));
  const dab = document.createElement("canvas").getContext("2d");
  dab.fillStyle = colour;
  dab.fillRect(0, 0, 1, 1);
  return [...dab.getImageData(0, 0, 1, 1).data.slice(0, 3)];
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

// --------------------------------------------------------------------------------------------- hands

/** Drag by mouse, finger or pen: `move(event)` for the press and each move, then `end(event)`. */
export function draggable(element, move, end = () => {}) {
  let held = null;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = event.pointerId;
    element.setPointerCapture(held);
    event.stopPropagation();
    move(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (event.pointerId === held) move(event);
  });
  const release = (event) => {
    if (event.pointerId !== held) return;
    held = null;
    end(event);
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
}

const WAYS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  Home: [-1e3, 0],
  End: [1e3, 0],
};

/** Move something by the arrow keys (finer with Shift, Home and End far); `go()` on Enter or Space. */
export function arrows(element, move, go = null) {
  element.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const way = WAYS[event.key];
    const fine = event.shiftKey ? 0.2 : 1;
    if (way) move(way[0] * fine, way[1] * fine);
    else if (go && (event.key === "Enter" || event.key === " ")) go();
    else return;
    event.preventDefault();
  });
}

/** A button of a card. */
export function push(text, onclick, attributes = {}) {
  return node("button", { type: "button", class: "amx-push", onclick, ...attributes }, text);
}

const unique = (name) => `amx-${name}-${Math.random().toString(36).slice(2, 8)}`;

/**
 * A labelled slider; `log` spaces its values by ratio. `input(value)` while it moves. Its name for those
 * who listen is the label alone; the value is said by the slider itself.
 */
export function slider({ name, label, min, max, step, value, log = false, format, input }) {
  const steps = 200;
  const place = (v) => (log ? (steps * Math.log(v / min)) / Math.log(max / min) : v);
  const read = (p) => (log ? Number((min * (max / min) ** (p / steps)).toPrecision(3)) : Number(p));
  const id = unique(name);
  const ends = log ? { min: 0, max: steps, step: 1 } : { min, max, step };
  const range = node("input", { type: "range", id, "data-name": name, ...ends });
  const shown = node("output", { for: id, "aria-hidden": "true" });
  const text = node("div", { class: "amx-name" }, node("label", { for: id }, label), shown);
  const root = node("div", { class: "amx-slider" }, text, range);
  const tell = (v) => {
    shown.textContent = format(v);
    range.setAttribute("aria-valuetext", format(v));
  };
  let marks = [];
  range.addEventListener("input", () => {
    const v = read(Number(range.value));
    tell(v);
    input(v);
  });
  const control = {
    root,
    range,
    show(v) {
      range.value = place(v);
      tell(v);
    },
    /** Fine red ticks on the track, where something happens. */
    mark(values) {
      for (const old of marks) old.remove();
      const inside = values.filter((v) => v >= min && v <= max);
      marks = inside.map((v) => {
        const share = (place(v) - place(min)) / (place(max) - place(min));
        const left = `left:calc(10px + ${share.toFixed(4)} * (100% - 20px))`;
        return node("i", { class: "amx-mark", "aria-hidden": "true", style: left });
      });
      root.append(...marks);
    },
  };
  control.show(value);
  return control;
}

/** A few named options, one of them chosen (radio buttons that look like a strip). */
export function choice({ name, label, options, value, input }) {
  const group = unique(name);
  const radios = options.map(([key, text]) => {
    const attributes = { type: "radio", name: group, value: key, "data-name": name };
    const radio = node("input", { ...attributes, onchange: () => input(key) });
    return { key, radio, label: node("label", {}, radio, node("span", {}, text)) };
  });
  const strip = node("div", {}, ...radios.map((r) => r.label));
  const root = node("fieldset", { class: "amx-choice" }, node("legend", {}, label), strip);
  const show = (v) => radios.forEach((r) => (r.radio.checked = r.key === v));
  show(value);
  return { root, show };
}

/** Fill the last line of a card: what hands can do, then experiments to try, each a button. */
export function tries(place, intro, list) {
  const items = list.map(([label, onclick], i) => {
    const button = node("button", { type: "button", class: "amx-quiet", onclick }, label);
    return node("span", {}, button, i + 1 < list.length ? ", " : ".");
  });
  place.replaceChildren(intro, ...items.flatMap((item) => [" ", item]));
}

/**
 * A question with its answers as buttons. `play(key, done)` runs the experiment and calls done;
 * then the reply is shown. All texts share one place, so nothing on the page moves.
 */
function prediction(place, { question, answers, reply, play }) {
  const buttons = answers.map(([key, text]) => push(text, () => answer(key), { "data-answer": key }));
  const asking = node("p", {}, node("b", {}, "First, your guess. "), question);
  const offered = node("div", { class: "amx-answers" }, ...buttons);
  const first = node("div", { class: "amx-question" }, asking, offered);
  const watching = node("p", {}, "Watch.");
  const again = () =>
    node("button", { type: "button", class: "amx-quiet", onclick: () => show(first) }, "Ask me again");
  const replied = (key) =>
    node("div", { class: "amx-question", tabindex: "-1" }, node("p", {}, reply(key)), again());
  const replies = Object.fromEntries(answers.map(([key]) => [key, replied(key)]));
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

// ---------------------------------------------------------------------------------------- the address

/** The settings of `#name?beta=3&x=0.4` as an object of texts; null for any other address. */
export function readHash(name, hash = location.hash) {
  const start = `#${name}?`;
  if (!hash.startsWith(start)) return null;
  return Object.fromEntries(new URLSearchParams(hash.slice(start.length)));
}

/** The address part for some settings: values are numbers, words or lists of numbers. */
export function formHash(name, settings) {
  const parts = Object.entries(settings).map(
    ([key, value]) => `${key}=${Array.isArray(value) ? value.join(",") : value}`,
  );
  return `#${name}?${parts.join("&")}`;
}

/**
 * Settings in the address. Nothing is written before the first touch (so that links to headings
 * stay what they are), and then in place: the Back button is never filled with slider moves.
 */
function address(name, root, apply) {
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

// ------------------------------------------------------------------------------------------- the life

/**
 * The card: title and Reset on top, a place for pictures, what happened in words, controls.
 * `still` leaves only picture and words, for the picture shown where there are no scripts.
 */
function card(element, { name, title, label, still = false, reset }) {
  if (!document.getElementById("amx-style")) {
    document.head.append(node("style", { id: "amx-style" }, STYLE));
  }
  const box = (kind) => node("div", { class: kind });
  const [stage, under, controls] = [box("amx-stage"), box("amx-under"), box("amx-controls amx-live")];
  const [row, ask] = [box("amx-row amx-live"), box("amx-ask amx-live")];
  const hint = node("p", { class: "amx-try amx-live" });
  const words = node("p");
  const status = node("div", { class: "amx-say", role: "status", "aria-live": "polite" }, words);
  const back = node("button", { type: "button", class: "amx-quiet amx-reset", onclick: reset }, "Reset");
  const head = node("div", { class: "amx-head amx-live" }, node("p", { class: "amx-title" }, title), back);
  const names = { role: "group", "aria-label": label, "data-explorable": name, "data-still": still };
  const root = node("div", { class: `amx amx-${name}`, ...names });
  root.append(head, ask, stage, status, under, controls, row, hint);
  element.replaceChildren(root);
  let quiet = 0;
  return {
    ...{ root, stage, under, controls, row, hint, ask },
    /** A short bold lead, the rest, and whether it went well; nothing empties it. */
    write(lead = "", rest = "", kind = "") {
      if (words.textContent === (lead && `${lead} ${rest}`) && (words.dataset.kind ?? "") === kind) return;
      words.dataset.kind = kind;
      words.replaceChildren(...(lead ? [node("b", {}, lead), ` ${rest}`] : []));
      status.setAttribute("aria-busy", "true"); // is read aloud once it has stayed for a moment
      clearTimeout(quiet);
      quiet = setTimeout(() => status.setAttribute("aria-busy", "false"), 400);
    },
  };
}

/**
 * Frames, one film at a time, and only while somebody can see them: what runs stops when `wake(false)`
 * and goes on from there. `frame(milliseconds)` gets the time since the frame before.
 */
function projector() {
  let [frame, request, before, awake] = [null, 0, null, true];
  const tick = (moment) => {
    const passed = before === null ? 0 : Math.min(250, moment - before);
    before = moment;
    request = requestAnimationFrame(tick);
    frame(passed);
  };
  const go = () => {
    cancelAnimationFrame(request);
    before = null;
    if (frame && awake) request = requestAnimationFrame(tick);
  };
  return {
    run(next) {
      frame = next;
      go();
    },
    stop() {
      frame = null;
      go();
    },
    wake(yes) {
      if (yes === awake) return;
      awake = yes;
      go();
    },
  };
}

/** A long computation beside everything else: some milliseconds at a time, while `wake(true)`. */
function workshop() {
  let [job, timer, awake] = [null, 0, true];
  const pump = () => {
    if (!job || !awake) return;
    const began = performance.now();
    let done = false;
    while (!done && performance.now() - began < 12) done = job.step();
    if (!done) {
      timer = setTimeout(pump, 0);
      return;
    }
    const { end } = job;
    job = null;
    end();
  };
  const go = () => {
    clearTimeout(timer);
    timer = setTimeout(pump, 30);
  };
  return {
    /** Take `step()` until it returns true, then call `end()`; what was under way is dropped. */
    start(step, end) {
      job = { step, end };
      go();
    },
    stop() {
      job = null;
      clearTimeout(timer);
    },
    wake(yes) {
      awake = yes;
      if (yes && job) go();
    },
  };
}

/**
 * What moves, and what is said of it. `ui.root.dataset.state` is "waiting" (a hand changed something and
 * its result is to come), "running" (a film) or "rest": only at rest does the sentence speak of the end,
 * and whatever ends the rest empties it.
 */
function motion(ui) {
  const [films, bench] = [projector(), workshop()];
  let timer = 0;
  const enter = (state) => {
    ui.root.dataset.state = state;
    if (state !== "rest") ui.write();
  };
  const finish = (end, after) => {
    films.stop();
    enter("rest");
    end();
    if (typeof after === "function") after();
  };
  return {
    wake(yes) {
      films.wake(yes);
      bench.wake(yes);
    },
    /** End the film, drop what was to come later, and take back what was said. */
    halt() {
      films.stop();
      clearTimeout(timer);
      enter("waiting");
    },
    /** Say what the picture shows now: [lead, rest, kind]. Outside of a film it is what it rests at. */
    say(lead, rest, kind) {
      if (ui.root.dataset.state !== "running") enter("rest");
      ui.write(lead, rest, kind);
    },
    /** Do this later, unless something else happens first. */
    later(action, milliseconds) {
      clearTimeout(timer);
      timer = setTimeout(action, milliseconds);
    },
    /** Frames with t from 0 to 1, then `end()`, then `after` where it is something to call. */
    film(milliseconds, frame, end, after = null) {
      enter("running");
      let passed = reducedMotion() ? milliseconds : 0;
      const show = (ms) => {
        passed += ms;
        const t = passed >= milliseconds ? 1 : passed / milliseconds;
        frame(t);
        if (t === 1) finish(end, after);
      };
      if (passed >= milliseconds) show(0);
      else films.run(show);
    },
    /** A film that takes as long as it takes: `frame()` until it returns true; then as `film`. */
    steps(frame, end, after = null) {
      enter("running");
      films.run(() => {
        if (frame()) finish(end, after);
      });
    },
    /** Compute beside all that: `step()` until it returns true, then `end()`. One at a time. */
    beside: bench.start,
    close() {
      films.stop();
      bench.stop();
      clearTimeout(timer);
    },
  };
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
export function explorable(element, options, parts) {
  const { name, style, start, settingsFrom, play } = parts;
  const { anew = () => {}, shared = (settings) => settings, patience = 350 } = parts;
  const ui = card(element, { ...parts, still: options.still, reset: () => begin(start, true) });
  ui.root.prepend(node("style", {}, style));
  const link = address(name, ui.root, (given) => begin(given, false));
  const now = settingsFrom({ ...(options.settings ?? {}), ...(link.given ?? {}) });
  const moves = motion(ui);
  let guess = { reset() {}, cancel() {} };

  const replaceAll = (settings) => {
    moves.halt();
    Object.assign(now, settingsFrom(settings));
    anew();
  };
  const begin = (settings, clear) => {
    replaceAll(settings);
    guess.reset();
    if (clear) link.clear();
    play();
  };

  return {
    ui,
    /** The settings, one object for the whole life: change it in place, then `touched()`. */
    now,
    ...moves,
    /** Play when the keys have been quiet for a while. */
    soon: () => moves.later(() => play(), patience),
    /** A hand changed something: the address follows, and an answer that is playing is off. */
    touched() {
      guess.cancel();
      link.write(shared(now));
    },
    /** Other settings by a hand: they go to the address and play. */
    show(settings) {
      replaceAll(settings);
      this.touched();
      play();
    },
    /** A question (see `prediction`), answered by `answer(done)` with the settings `asked`. */
    ask({ asked, answer = play, ...texts }) {
      const played = (key, done) => {
        replaceAll(asked);
        link.write(shared(now));
        answer(done);
      };
      guess = prediction(ui.ask, { ...texts, play: played });
    },
    /**
     * The last thing of a `mount`, `open({ draw, watched, seen, state })`: `draw` follows the look of
     * `watched`, the first play waits until `seen` is seen, `state()` are the numbers that the picture
     * shows. Returns the handle.
     */
    open(view) {
      const closing = attend(view, { ui, moves, play, still: options.still });
      return {
        settings: () => structuredClone(now),
        state: () => ({ phase: ui.root.dataset.state, ...view.state?.() }),
        apply: (settings) => begin({ ...now, ...settings }, false),
        destroy() {
          moves.close();
          closing.forEach((close) => close());
          link.forget();
          element.replaceChildren();
        },
      };
    },
  };
}

/** Draw, play and pause as the page asks for it; returns what ends each of these. */
function attend({ draw, watched, seen }, { ui, moves, play, still }) {
  const closing = [whenLookChanges(watched ?? ui.stage, draw)];
  if (still) play();
  else
    closing.push(
      whenSeen(seen ?? ui.root, () => play()),
      whenAwake(ui.root, moves.wake),
    );
  return closing;
}

// What the explorables share. Nothing here knows about memories, and nothing comes from outside.
//
// To write a new one (cells.js is the shortest to read):
//  1. `NAME.js` beside this file. First the mathematics: small exported functions of plain numbers, no
//     DOM in them. A test in tests/site compares each with the library's.
//  2. `settingsFrom(given)` makes settings out of anything (an address, nothing, nonsense), and
//     `tell(result, settings)` returns [lead, rest, kind] about the state that the picture shows.
//  3. A class that extends `Explorable` of life.js: what it computes, draws and says at a moment of its
//     film, its controls and its question. Each method below 60 lines (`make test` runs ESLint and
//     Prettier). landscape.js has heat maps, contours, planes and points to drag; `legend` sets legends.
//  4. `mount(element, options)` returns `explorable(...)` of life.js. It keeps the settings in the address,
//     plays when first seen, pauses when out of sight, and empties the sentence when something moves: no
//     sentence outlives the picture it was about. A hand calls `this.turn(settings, then)`.
//  5. `state()` returns the numbers that the picture shows; the tests compare the sentence with them.
//  6. No colour but the palette of style.js. Every handle is a `slider` by role, with a name and arrow
//     keys. It fits 320 pixels. The tests for all explorables take the new one up by themselves.
//  7. The picture for readers without scripts: a line in MOMENTS of tools/explorable_fallbacks.py, run it.
//     In the chapter: `:::{explorable} NAME`. Under 100 kB with all it imports; see `bundle` in
//     book/_ext/amtutor_site.py for the few ways of import and export that it can pour into a page.

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
    /** To where a value is; a hand that is at it already is left where it is, between two of them. */
    show(v) {
      if (shown.textContent === format(v)) return;
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

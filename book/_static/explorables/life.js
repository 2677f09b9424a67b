// The life of an explorable: its card, its address, its films, and the base of its class. common.js says
// how to write one.

import { choice, node, push, readHash, formHash, reducedMotion, slider, tries } from "./common.js";
import { STYLE } from "./style.js";

// ------------------------------------------------------------------------------------- the page around it

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

// ------------------------------------------------------------------------------------------- the question

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

// -------------------------------------------------------------------------------------------- the address

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

// ----------------------------------------------------------------------------------------- card and films

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

// ------------------------------------------------------------------------------------------- the life

/**
 * What every explorable is: a picture of settings at a moment of a film, hands that change them, and a
 * sentence about the end. A class of its own says only what is its own, by these methods:
 *
 *   constructor(life)    the picture, made once, into `this.ui.stage`
 *   compute()            the numbers of `this.now`, the settings
 *   seek(t)              to a moment of the film, 0..1
 *   draw(), frame()      all of the picture; what of it moves in the film, where that is less
 *   told(), pace()       [lead, rest, kind] about the end; milliseconds of the film
 *   controls()           hands, by `slide`, `pick`, `push` and `visits`
 *   question()           see `prediction`; `asked` are its settings, `answer(done)` is `play` by itself
 *   state()              the numbers that the picture shows
 */
export class Explorable {
  constructor(life) {
    /** The settings are one object for the whole life: it is changed in place. */
    Object.assign(this, { life, ui: life.ui, now: life.now });
    this.hands = {}; // sliders and choices by the setting that they change
    this.share = 0; // of the film, as shown
  }

  compute() {}

  seek(t) {
    this.share = t;
  }

  frame() {
    this.draw();
  }

  pace() {
    return 2600;
  }

  /** All settings were replaced. */
  anew() {}

  /** What is computed beside everything else is there. */
  async measured() {}

  /** Sliders and choices stand where the settings are. */
  showHands() {
    for (const [name, hand] of Object.entries(this.hands)) hand.show(this.now[name]);
  }

  /** The settings at a moment of their film; what was to come is off, and nothing is said yet. */
  show(t) {
    this.life.halt();
    this.compute();
    this.showHands();
    this.seek(t);
    this.draw();
  }

  say() {
    this.life.say(...this.told());
  }

  /** The end at once, for a hand that is on something. */
  instant() {
    this.show(1);
    this.say();
  }

  /**
   * The end by and by, where one frame is too short for it: `some()` computes for a few milliseconds, and
   * says whether all is there. What there is by then is drawn.
   */
  gradually(some) {
    this.life.halt();
    this.compute();
    this.showHands();
    const frame = () => {
      const done = some();
      this.draw();
      return done;
    };
    if (frame()) this.say();
    else this.life.steps(frame, () => this.say());
  }

  /** The start alone, for a hand that will let go. */
  wait() {
    this.show(0);
  }

  /** The start; it plays when the hand has been quiet for a while. */
  soon() {
    this.wait();
    this.life.soon();
  }

  /** The film from a moment on; at its end the sentence, then `after` where it is something to call. */
  play(after = null, { from = 0, milliseconds = null } = {}) {
    this.show(from);
    const frame = (t) => {
      this.seek(from + (1 - from) * t);
      this.frame();
    };
    this.life.film((milliseconds ?? this.pace()) * (1 - from), frame, () => this.say(), after);
  }

  /** A film in which settings change, `turn(t)`, and the picture is that of a moment of theirs. */
  vary(turn, after, { at = 1, milliseconds = 2600, end = () => this.say() } = {}) {
    const frame = (t) => {
      turn(t);
      this.compute();
      this.showHands();
      this.seek(at);
      this.draw();
    };
    this.life.film(milliseconds, frame, end, after);
  }

  /** A hand changed settings: they go to the address, and then "instant", "wait", "soon" or "play". */
  turn(change, then = "instant") {
    Object.assign(this.now, change);
    this.life.touched();
    this[then]();
  }

  /** A slider of a setting, in a shape as `slider` has it; returns its element. */
  slide(name, { then, ...shape }) {
    const input = (v) => this.turn({ [name]: v }, then);
    this.hands[name] = slider({ name, value: this.now[name], input, ...shape });
    return this.hands[name].root;
  }

  /** A choice of a setting, [[value, text], ...]; returns its element. */
  pick(name, label, options, then) {
    const input = (v) => this.turn({ [name]: v }, then);
    this.hands[name] = choice({ name, label, options, value: this.now[name], input });
    return this.hands[name].root;
  }

  /** A button that plays, after `change()` where something is to be changed before. */
  button(text, change = () => ({})) {
    return push(text, () => this.turn(change(), "play"));
  }

  /** The last line of the card: what hands can do, and settings to visit, [[words, settings], ...]. */
  visits(intro, list) {
    const { visit, start } = this.life;
    const all = (given) => (typeof given === "function" ? given() : { ...start, ...given });
    const items = list.map(([words, given]) => [words, () => visit(all(given))]);
    tries(this.ui.hint, intro, items);
  }
}

/**
 * The life of an explorable, from its card to `destroy()`: settings that come from the address and
 * go back there, one film at a time, the question, the first play when somebody sees it.
 *
 * `View` is its class, an Explorable; `settingsFrom(given)` makes settings out of anything; `start` are
 * those of Reset. `shared(now)` is what the address keeps; `patience` the milliseconds from the last key
 * to a film. Returns a handle: `settings()`, `state()`, `apply(settings)`, `measured()`, `destroy()`.
 */
export function explorable(View, element, options, parts) {
  const { name, style, start, settingsFrom, shared = (settings) => settings, patience = 350 } = parts;
  const ui = card(element, { ...parts, still: options.still, reset: () => begin(start, true) });
  ui.root.prepend(node("style", {}, style));
  const link = address(name, ui.root, (given) => begin(given, false));
  const now = settingsFrom({ ...(options.settings ?? {}), ...(link.given ?? {}) });
  const moves = motion(ui);
  let guess = { reset() {}, cancel() {} };

  const replaceAll = (settings) => {
    moves.halt();
    Object.assign(now, settingsFrom(settings));
    view.anew();
  };
  const begin = (settings, clear) => {
    replaceAll(settings);
    guess.reset();
    if (clear) link.clear();
    view.play();
  };
  /** A hand changed something: the address follows, and an answer that is playing is off. */
  const touched = () => {
    guess.cancel();
    link.write(shared(now));
  };
  /** Other settings by a hand: they go to the address and play. */
  const visit = (settings) => {
    replaceAll(settings);
    touched();
    view.play();
  };
  /** Play when the keys have been quiet for a while. */
  const soon = () => moves.later(() => view.play(), patience);
  const view = new View({ ui, now, start, ...moves, soon, touched, visit });

  const ask = ({ asked, answer = (done) => view.play(done), ...texts }) => {
    const played = (key, done) => {
      replaceAll(asked);
      link.write(shared(now));
      answer(done);
    };
    return prediction(ui.ask, { ...texts, play: played });
  };
  view.controls();
  guess = ask(view.question());
  view.show(0);
  const closing = attend(view, { ui, moves, still: options.still });
  return {
    settings: () => structuredClone(now),
    state: () => ({ phase: ui.root.dataset.state, ...view.state() }),
    apply: (settings) => begin({ ...now, ...settings }, false),
    measured: () => view.measured(),
    destroy() {
      moves.close();
      closing.forEach((close) => close());
      link.forget();
      element.replaceChildren();
    },
  };
}

/** Draw, play and pause as the page asks for it; returns what ends each of these. */
function attend(view, { ui, moves, still }) {
  const closing = [whenLookChanges(ui.stage, () => view.draw())];
  if (still) view.play();
  else
    closing.push(
      whenSeen(ui.stage, () => view.play()),
      whenAwake(ui.root, moves.wake),
    );
  return closing;
}

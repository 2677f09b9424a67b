// The look of every explorable: a card, its controls, and a palette with a fixed meaning (memories,
// queries, trajectories, energy, what went wrong), light and dark.

export const STYLE = `
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
.amx svg text.strong { fill: var(--amx-ink); font-weight: 600; }
.amx svg text.mid { text-anchor: middle; }
.amx svg text.end { text-anchor: end; }
.amx svg .axis { stroke: var(--amx-line); stroke-width: 1; }
.amx-head { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; }
.amx .amx-title { font-weight: 650; font-size: 1.02rem; }
.amx .amx-reset { flex: none; }
.amx button {
  font: inherit; color: inherit; background: none; border: 0; margin: 0; cursor: pointer;
  touch-action: manipulation;
}
.amx .amx-quiet {
  padding: .3rem .1rem; min-height: 28px; color: var(--amx-muted); font-size: .86rem;
  text-decoration: underline; text-decoration-color: var(--amx-edge); text-underline-offset: 3px;
}
.amx .amx-quiet:hover { color: var(--amx-ink); text-decoration-color: currentColor; }
.amx .amx-push {
  padding: .32rem .8rem; min-height: 34px; border: 1px solid var(--amx-edge); border-radius: 999px;
  background: var(--amx-paper);
}
.amx .amx-push:hover { border-color: var(--amx-memory); }
.amx .amx-push:disabled { opacity: .45; cursor: default; border-color: var(--amx-line); }
.amx :focus { outline: none; }
.amx button:focus-visible, .amx canvas:focus-visible, .amx [role="slider"]:focus-visible {
  outline: 3px solid var(--amx-halo); outline-offset: 2px; border-radius: 8px;
}
.amx svg [role="slider"]:focus-visible { outline: none; }
.amx svg [role="slider"] .amx-ring { fill: none; stroke: none; }
.amx svg [role="slider"]:focus-visible .amx-ring { stroke: var(--amx-halo); stroke-width: 4px; }
.amx-ask {
  display: grid; margin: .7rem 0 .9rem; padding: .6rem .8rem; background: var(--amx-soft);
  border-radius: 8px; align-items: center;
}
.amx-ask > * { grid-area: 1 / 1; visibility: hidden; }
.amx-ask > .amx-on { visibility: visible; }
.amx-question {
  display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; justify-content: space-between;
}
.amx-question > p { flex: 1 1 17rem; }
.amx-answers { display: flex; flex-wrap: wrap; gap: .45rem; }
.amx-say { margin: .8rem 0 .2rem; min-height: 4.4em; }
.amx-say p { padding-left: .75rem; border-left: 3px solid var(--amx-line); }
.amx-say p[data-kind="good"] { border-color: var(--amx-energy); }
.amx-say p[data-kind="bad"] { border-color: var(--amx-wrong); }
.amx-say b { font-weight: 650; }
.amx-say p:empty { border-color: transparent; }
.amx-controls {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(225px, 1fr)); gap: .5rem 1.8rem;
  margin-top: .8rem;
}
.amx-row { display: flex; flex-wrap: wrap; gap: .45rem .6rem; align-items: center; margin-top: .6rem; }
.amx-slider { display: block; position: relative; min-width: 0; }
.amx-slider .amx-name { display: flex; justify-content: space-between; gap: .6rem; font-size: .88rem; }
.amx-slider label { margin: 0; cursor: pointer; }
.amx-slider output {
  font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; padding: 0; margin: 0;
  border: 0;
}
.amx input[type="range"] {
  -webkit-appearance: none; appearance: none; display: block; width: 100%; height: 30px; margin: 0;
  padding: 0; background: none; cursor: pointer; touch-action: pan-y;
}
.amx input[type="range"]::-webkit-slider-runnable-track {
  height: 4px; border-radius: 2px; background: var(--amx-edge);
}
.amx input[type="range"]::-moz-range-track { height: 4px; border-radius: 2px; background: var(--amx-edge); }
.amx input[type="range"]::-webkit-slider-thumb {
  -webkit-appearance: none; width: 20px; height: 20px; margin-top: -8px; border-radius: 50%;
  background: var(--amx-memory); border: 3px solid var(--amx-paper);
  box-shadow: 0 0 0 1px var(--amx-memory);
}
.amx input[type="range"]::-moz-range-thumb {
  width: 14px; height: 14px; border-radius: 50%; background: var(--amx-memory);
  border: 3px solid var(--amx-paper); box-shadow: 0 0 0 1px var(--amx-memory);
}
.amx input[type="range"]:focus-visible::-webkit-slider-thumb { box-shadow: 0 0 0 4px var(--amx-halo); }
.amx input[type="range"]:focus-visible::-moz-range-thumb { box-shadow: 0 0 0 4px var(--amx-halo); }
.amx-mark {
  position: absolute; bottom: 7px; width: 2px; height: 16px; margin-left: -1px;
  background: var(--amx-wrong); border-radius: 1px; pointer-events: none;
}
.amx-choice { border: 0; margin: 0; padding: 0; min-width: 0; }
.amx-choice legend {
  float: none; width: auto; font-size: .88rem; line-height: inherit; padding: 0; margin: 0 0 .2rem;
  color: inherit; border: 0;
}
.amx-choice legend:empty { display: none; }
.amx-choice div {
  display: inline-flex; border: 1px solid var(--amx-edge); border-radius: 8px; overflow: hidden;
}
.amx-choice label { position: relative; margin: 0; cursor: pointer; }
.amx-choice input {
  position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0; margin: 0; cursor: pointer;
}
.amx-choice span { display: block; padding: .3rem .75rem; min-height: 32px; }
.amx-choice label + label span { border-left: 1px solid var(--amx-edge); }
.amx-choice input:checked + span { background: var(--amx-memory); color: var(--amx-paper); }
.amx-choice input:focus-visible + span { box-shadow: inset 0 0 0 3px var(--amx-halo); }
.amx-try { margin-top: .55rem !important; font-size: .86rem; color: var(--amx-muted); }
.amx-try span { white-space: nowrap; }
.amx-try .amx-quiet { display: inline; min-height: 0; padding: .2rem 0 !important; }
.amx[data-still] { border: 0; margin: 0; }
.amx[data-still] .amx-live { display: none; }
.amx[data-still] .amx-say { min-height: 0; }
@media (max-width: 480px) {
  .amx { padding: .85rem .8rem .7rem; }
  .amx-say { min-height: 5.8em; }
  .amx-choice span { padding: .3rem .55rem; }
}
`;

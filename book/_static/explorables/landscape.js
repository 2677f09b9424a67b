// Landscapes in the plane: where things lie on the screen, heat maps with contours, points to drag.

import { arrows, clamp, draggable, nice, rgb, set, svg } from "./common.js";

/** The picture shows x in [x0, x1] and y in [y0, y1]; `resize` says on how many pixels. */
export class Plane {
  constructor([x0, x1], [y0, y1]) {
    Object.assign(this, { x0, x1, y0, y1, w: 400, h: 300 });
  }

  /** Take the size of the element that shows the plane; false while it has none. */
  resize(element) {
    [this.w, this.h] = [element.clientWidth, element.clientHeight];
    return this.w > 0 && this.h > 0;
  }

  sx(x) {
    return ((x - this.x0) / (this.x1 - this.x0)) * this.w;
  }

  sy(y) {
    return ((this.y1 - y) / (this.y1 - this.y0)) * this.h;
  }

  to([x, y]) {
    return [this.sx(x), this.sy(y)];
  }

  /** The place in the plane where a pointer is, over the element that shows the plane. */
  at(event, element) {
    const box = element.getBoundingClientRect();
    const [u, v] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [this.x0 + u * (this.x1 - this.x0), this.y1 - v * (this.y1 - this.y0)];
  }

  /** The x of `n` columns and the y of `m` rows of cells (their middles), from the upper left. */
  cells(n, m) {
    const part = (count, from, to) =>
      Float64Array.from({ length: count }, (_, i) => from + ((i + 0.5) / count) * (to - from));
    return { xs: part(n, this.x0, this.x1), ys: part(m, this.y1, this.y0) };
  }
}

/** A grid of values, row by row from the upper left, and how far they reach. */
export function field(values, nx, ny) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return { values, nx, ny, low, high };
}

/**
 * Paint a field over the whole pen: `depth(share)`, 0 at the lowest value and 1 at `high`, is how much of
 * the colour covers the paper. One picture element a cell, smoothed by the browser.
 */
export function heat(context, { values, nx, ny, low, high }, { w, h, colour, paper, depth }) {
  const small = set(document.createElement("canvas"), { width: nx, height: ny });
  const sheet = small.getContext("2d");
  const image = sheet.createImageData(nx, ny);
  const pixels = new Uint32Array(image.data.buffer);
  const shades = shadesOf(rgb(colour), rgb(paper), depth);
  const scale = (shades.length - 1) / (high - low || 1);
  for (let p = 0; p < values.length; p++) {
    pixels[p] = shades[Math.min(shades.length - 1, Math.max(0, Math.round((values[p] - low) * scale)))];
  }
  sheet.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, w, h);
}

/** A thousand shades from the deepest to the paper, as a canvas keeps its pixels. */
function shadesOf(deep, flat, depth) {
  const bytes = new Uint8ClampedArray(4 * 1024);
  for (let i = 0; i < 1024; i++) {
    const part = depth(i / 1023);
    for (let d = 0; d < 3; d++) bytes[4 * i + d] = flat[d] + part * (deep[d] - flat[d]);
    bytes[4 * i + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}

/** Marching squares: the segments [[x, y, x, y], ...] where a field is at a level, in units of cells. */
export function contour({ values, nx, ny }, level) {
  const found = [];
  for (let j = 0; j + 1 < ny; j++) {
    for (let i = 0; i + 1 < nx; i++) {
      const p = j * nx + i;
      const above = values[p] > level;
      const same = values[p + 1] > level === above && values[p + nx] > level === above;
      if (same && values[p + nx + 1] > level === above) continue;
      const corner = [values[p], values[p + 1], values[p + nx + 1], values[p + nx]].map((v) => v - level);
      found.push(...cutSquare(corner, i, j));
    }
  }
  return found;
}

/** One square of it: its four corners in turn, and where it lies. */
function cutSquare(corner, i, j) {
  const cuts = [];
  for (let k = 0; k < 4; k++) {
    const [a, b] = [corner[k], corner[(k + 1) % 4]];
    if (a > 0 === b > 0) continue;
    const f = a / (a - b);
    cuts.push(
      ...[
        [i + f, j],
        [i + 1, j + f],
        [i + 1 - f, j + 1],
        [i, j + 1 - f],
      ][k],
    );
  }
  return cuts.length === 8 ? [cuts.slice(0, 4), cuts.slice(4)] : [cuts];
}

/** The contours of a field at some levels, over a picture of w by h, as one path. */
export function contourPath(grid, levels, { w, h }) {
  const [sx, sy] = [w / grid.nx, h / grid.ny];
  const path = new Path2D();
  for (const level of levels) {
    for (const [x0, y0, x1, y1] of contour(grid, level)) {
      path.moveTo((x0 + 0.5) * sx, (y0 + 0.5) * sy);
      path.lineTo((x1 + 0.5) * sx, (y1 + 0.5) * sy);
    }
  }
  return path;
}

/** Stroke the contours of a field at some levels over a pen of w by h. */
export function contours(context, grid, levels, size) {
  context.stroke(contourPath(grid, levels, size));
}

/**
 * A point that hands can move: by mouse and finger, `carry(event)`; by the arrow keys, `nudge(dx, dy)` in
 * units of one key; `go()` when it is let go or on Enter. `show(plane, [x, y])` puts it in its place.
 */
export function point({ kind, label, text = "", radius = 9, range, carry, nudge, go }) {
  const [low, high] = range;
  const names = { role: "slider", tabindex: "0", "aria-roledescription": "point", "aria-label": label };
  const root = svg("g", { class: kind, ...names, "aria-valuemin": low, "aria-valuemax": high });
  root.append(
    svg("circle", { r: 18, fill: "transparent" }),
    svg("circle", { class: "amx-ring", r: 13 }),
    svg("circle", { class: "dot", r: radius }),
  );
  if (text) root.append(svg("text", { y: 4 }, text));
  draggable(root, carry, go);
  arrows(root, nudge, go);
  return {
    root,
    show(plane, [x, y], words = `at ${nice(x)}, ${nice(y)}`) {
      const place = `translate(${plane.sx(x).toFixed(2)} ${plane.sy(y).toFixed(2)})`;
      set(root, { transform: place, "aria-valuenow": clamp(x, low, high), "aria-valuetext": words });
    },
  };
}

/**
 * A point (see above) whose place is `at()` and which goes where hands want it, `put([x, y])`, rounded and
 * no farther than `within`: by a pointer over `over`, by keys in steps. `nudged()` after a key.
 */
export function grip({ plane, over, at, put, within = plane, digits = 3, nudged = () => {}, ...rest }) {
  const { x0, x1, y0, y1 } = within; // as it is now: a picture may zoom out later
  const to = ([x, y]) => put([clamp(x, x0, x1), clamp(y, y0, y1)].map((v) => Number(v.toFixed(digits))));
  const nudge = (dx, dy) => {
    const [x, y] = at();
    to([x + 0.05 * dx, y + 0.05 * dy]);
    nudged();
  };
  return point({ ...rest, range: [x0, x1], carry: (event) => to(plane.at(event, over)), nudge });
}

/** A grip for each memory `now.m[i]` of a view, in front of the picture `over`; a move turns the settings. */
export function memoryGrips(view, names, { over, ...rest }) {
  const { now } = view;
  return [...names].map((name, i) => {
    const made = grip({
      ...{ kind: "memory", label: `Memory ${name}: arrow keys move it`, text: name, over },
      at: () => now.m[i],
      put: (spot) => {
        now.m[i] = spot;
        view.turn();
      },
      ...rest,
    });
    over.append(made.root);
    return made;
  });
}

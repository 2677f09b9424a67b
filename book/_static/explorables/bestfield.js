// The best field of Equilibrium Matching for points that are known: what no network can beat. The twin of
// `amtutor.generative.equilibrium.best_field` in the plane; no explorable, but what two of them share.

/** Places y in (-1, 1) and weights of Gauss and Legendre: [[y, weight], ...]. */
export function legendre(n) {
  return Array.from({ length: n }, (_, i) => {
    let y = Math.cos((Math.PI * (i + 0.75)) / (n + 0.5));
    let slope = 1;
    for (let round = 0; round < 100; round++) {
      let [now, before] = [y, 1];
      for (let k = 2; k <= n; k++) [now, before] = [((2 * k - 1) * y * now - (k - 1) * before) / k, now];
      slope = (n * (y * now - before)) / (y * y - 1);
      const step = now / slope;
      y -= step;
      if (Math.abs(step) < 1e-15) break;
    }
    return [y, 2 / ((1 - y * y) * slope * slope)];
  });
}

/** EQ 3: constant up to a, then a straight line to zero; `left` is 1 - gamma. */
export function truncated(left, { a = 0.8, scale = 4 } = {}) {
  return scale * Math.min(1, left / (1 - a));
}

/**
 * All gammas between noise (0) and data (1), as a few: [{ gamma, left, weight, c }, ...], left = 1 - gamma.
 * Even in the logarithm of `left`, where the bells are as narrow as it; a panel ends where c has its corner.
 */
export function quadrature({ n = 48, floor = 1e-4, a = 0.8, scale = 4 } = {}) {
  const ends = [floor, 1 - a, 1].map(Math.log);
  const panels = [0, 1].map((p) => [(ends[p] + ends[p + 1]) / 2, (ends[p + 1] - ends[p]) / 2]);
  return panels.flatMap(([middle, half]) =>
    legendre(n).map(([y, weight]) => {
      const left = Math.exp(middle + half * y);
      return { gamma: 1 - left, left, weight: weight * half * left, c: truncated(left, { a, scale }) };
    }),
  );
}

const ROW = 9; // numbers of an answer: x1, x2, gamma x1, gamma x2, c / left, left, and those of its bell

/** Each gamma and each point is an answer: what of it does not depend on the place, as one list. */
function answers(points, nodes) {
  const table = new Float64Array(ROW * nodes.length * points.length);
  let k = 0;
  for (const { gamma, left, weight, c } of nodes) {
    const height = Math.log(weight) - 2 * Math.log(left);
    for (const [x1, x2] of points) {
      table.set([x1, x2, gamma * x1, gamma * x2, c / left, left, height, 0.5 / left ** 2, 1 / left ** 2], k);
      k += ROW;
    }
  }
  return table;
}

/**
 * The best field for these points, as a function of the place: { field: [f1, f2] }, uphill, from data to
 * noise. With `turned` also how much it turns there, curl = d1 f2 - d2 f1, and what a place tells of the
 * noise, left, the mean of 1 - gamma.
 *
 * An answer is v = c (z - x) / (1 - gamma); the field is their mean, weighted by how likely z came from
 * there, N(z; gamma x, (1 - gamma)^2). Weights change from place to place; how much they and the answers
 * turn against each other is the curl. Answers below e^-40 of the likeliest are less than rounding.
 */
export function bestFieldOf(points, nodes, turned = false) {
  const table = answers(points, nodes);
  const heights = new Float64Array(table.length / ROW);
  return ([z1, z2]) => {
    let highest = -Infinity;
    for (let i = 0, k = 0; i < heights.length; i++, k += ROW) {
      const [d1, d2] = [z1 - table[k + 2], z2 - table[k + 3]];
      heights[i] = table[k + 6] - (d1 * d1 + d2 * d2) * table[k + 7];
      if (heights[i] > highest) highest = heights[i];
    }
    let [sum, f1, f2, g1, g2, turn, noise] = [0, 0, 0, 0, 0, 0, 0];
    for (let i = 0, k = 0; i < heights.length; i++, k += ROW) {
      const low = heights[i] - highest;
      if (low < -40) continue;
      const p = Math.exp(low);
      const [v1, v2] = [table[k + 4] * (z1 - table[k]), table[k + 4] * (z2 - table[k + 1])];
      sum += p;
      f1 += p * v1;
      f2 += p * v2;
      if (!turned) continue;
      const [l1, l2] = [(table[k + 2] - z1) * table[k + 8], (table[k + 3] - z2) * table[k + 8]];
      g1 += p * l1;
      g2 += p * l2;
      turn += p * (l1 * v2 - l2 * v1);
      noise += p * table[k + 5];
    }
    const field = [f1 / sum, f2 / sum];
    if (!turned) return { field };
    const curl = turn / sum - ((g1 / sum) * field[1] - (g2 / sum) * field[0]);
    return { field, curl, left: noise / sum };
  };
}

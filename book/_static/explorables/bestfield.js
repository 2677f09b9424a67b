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

/**
 * The field at a place, how much it turns there (d1 f2 - d2 f1), and what a place tells of the noise
 * (the mean of 1 - gamma): { field: [f1, f2], curl, left }.
 *
 * Each gamma and each point is an answer v = c (z - x) / (1 - gamma); the field is their mean, weighted by
 * how likely z came from there, N(z; gamma x, (1 - gamma)^2). Weights change from place to place; how
 * much they and the answers turn against each other is the curl.
 */
export function bestFieldAndCurl([z1, z2], points, nodes) {
  const heights = new Float64Array(nodes.length * points.length);
  let highest = -Infinity;
  let i = 0;
  for (const { gamma, left, weight } of nodes) {
    const start = Math.log(weight) - 2 * Math.log(left);
    for (const [x1, x2] of points) {
      const gap = (z1 - gamma * x1) ** 2 + (z2 - gamma * x2) ** 2;
      heights[i] = start - gap / (2 * left * left);
      if (heights[i] > highest) highest = heights[i];
      i++;
    }
  }
  let [sum, f1, f2, g1, g2, turn, noise] = [0, 0, 0, 0, 0, 0, 0];
  i = 0;
  for (const { gamma, left, c } of nodes) {
    for (const [x1, x2] of points) {
      const p = Math.exp(heights[i++] - highest);
      if (p === 0) continue;
      const [v1, v2] = [(c * (z1 - x1)) / left, (c * (z2 - x2)) / left];
      const [l1, l2] = [(gamma * x1 - z1) / (left * left), (gamma * x2 - z2) / (left * left)];
      sum += p;
      f1 += p * v1;
      f2 += p * v2;
      g1 += p * l1;
      g2 += p * l2;
      turn += p * (l1 * v2 - l2 * v1);
      noise += p * left;
    }
  }
  [f1, f2, g1, g2] = [f1 / sum, f2 / sum, g1 / sum, g2 / sum];
  return { field: [f1, f2], curl: turn / sum - (g1 * f2 - g2 * f1), left: noise / sum };
}

/** The field alone: [f1, f2], uphill, from data to noise. */
export function bestField(place, points, nodes) {
  return bestFieldAndCurl(place, points, nodes).field;
}

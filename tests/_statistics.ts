/** Chi-square tests with a stated false-alarm rate. */
import { assert } from "@std/assert";

/** How likely a chi-square variable with `degrees` degrees of freedom exceeds `value`. */
export function chiSquareTail(value: number, degrees: number): number {
  return upperGamma(degrees / 2, value / 2);
}

/**
 * Pearson's statistic of observed counts against exact probabilities. Outcomes expected fewer than
 * five times are pooled.
 *
 * @throws {AssertionError} if an outcome of probability 0 was seen
 */
export function chiSquare(
  counts: readonly number[],
  probabilities: readonly number[],
): { readonly value: number; readonly degrees: number } {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let value = 0, cells = 0, rareCount = 0, rareExpected = 0;
  counts.forEach((count, i) => {
    const expected = probabilities[i]! * total;
    assert(expected > 0 || count === 0, `outcome ${i} has no probability but was seen ${count}x`);
    if (expected >= 5) {
      value += (count - expected) ** 2 / expected;
      cells++;
    } else {
      rareCount += count;
      rareExpected += expected;
    }
  });
  if (rareExpected > 0) {
    value += (rareCount - rareExpected) ** 2 / rareExpected;
    cells++;
  }
  return { value, degrees: cells - 1 };
}

/**
 * Fails if counts this far from the probabilities were less likely than `falseAlarm`.
 *
 * @param falseAlarm the probability that a correct sampler fails; divide it by the number of tests
 */
export function assertDistribution(
  counts: readonly number[],
  probabilities: readonly number[],
  falseAlarm: number,
  message = "",
): void {
  const { value, degrees } = chiSquare(counts, probabilities);
  if (degrees === 0) return; // one possible outcome, and nothing else was seen
  const tail = chiSquareTail(value, degrees);
  assert(
    tail >= falseAlarm,
    `${message} chi-square ${value.toFixed(1)} with ${degrees} degrees: p = ${tail}`,
  );
}

/** Regularised upper incomplete gamma function Q(a, x): series or continued fraction (Lentz). */
function upperGamma(a: number, x: number): number {
  if (x <= 0) return 1;
  const front = Math.exp(-x + a * Math.log(x) - logGamma(a));
  if (x < a + 1) {
    let term = 1 / a, sum = term;
    for (let n = 1; n < 1000 && term > sum * 1e-15; n++) sum += term *= x / (a + n);
    return 1 - front * sum;
  }
  let b = x + 1 - a, c = 1e300, d = 1 / b, fraction = d;
  for (let n = 1; n < 1000; n++) {
    const factor = -n * (n - a);
    b += 2;
    d = 1 / (factor * d + b);
    c = b + factor / c;
    const step = c * d;
    fraction *= step;
    if (Math.abs(step - 1) < 1e-14) break;
  }
  return front * fraction;
}

/** ln Gamma(x) for x > 0: Stirling's series after shifting up. */
function logGamma(x: number): number {
  let shift = 0;
  for (; x < 10; x++) shift -= Math.log(x);
  const inverse = 1 / (x * x);
  const series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / x;
  return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
}

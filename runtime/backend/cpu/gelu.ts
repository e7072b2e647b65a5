/**
 * gelu: y = x * (1 + erf(x / sqrt(2))) / 2, element by element, without the usual approximation by tanh.
 *
 * Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2.
 */

/** In place of `to`; both of the same length. */
export function gelu(from: Float32Array, to: Float32Array): void {
  for (let i = 0; i < from.length; i++) {
    const x = from[i]!;
    to[i] = x * (1 + erf(x * Math.SQRT1_2)) / 2;
  }
}

/**
 * The error function, to about 1e-15.
 *
 * Source: Abramowitz and Stegun, 7.1.6: 2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * ... * (2n+1)),
 * whose terms all have one sign. Beyond 6 it is 1 in double precision.
 */
export function erf(x: number): number {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  let term = size, sum = size;
  for (let n = 1; term > 1e-17 * sum; n++) {
    term *= 2 * size * size / (2 * n + 1);
    sum += term;
  }
  return Math.sign(x) * Math.min(1, 2 / Math.sqrt(Math.PI) * Math.exp(-size * size) * sum);
}

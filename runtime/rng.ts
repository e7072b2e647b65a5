/**
 * Counter-based random numbers: the value depends on (key, counter) alone, never on how many were
 * drawn before, so a token's noise is the same alone or in a crowd, streamed or not, on CPU or GPU.
 *
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10.
 * Only 32-bit integer operations, so WGSL computes the same words.
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** High 32 bits of the 64-bit product of two unsigned 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16;
  const bLow = b & 0xffff, bHigh = b >>> 16;
  const mid = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (mid & 0xffff);
  return (aHigh * bHigh + (mid >>> 16) + (cross >>> 16)) >>> 0;
}

/**
 * One block of Philox4x32-10.
 *
 * @param out four words, written in place
 */
export function philox(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  key0: number,
  key1: number,
): void {
  let x0 = c0 >>> 0, x1 = c1 >>> 0, x2 = c2 >>> 0, x3 = c3 >>> 0;
  let k0 = key0 >>> 0, k1 = key1 >>> 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0, x0), low0 = Math.imul(M0, x0) >>> 0;
    const high1 = mulHigh(M1, x2), low1 = Math.imul(M1, x2) >>> 0;
    x0 = (high1 ^ x1 ^ k0) >>> 0;
    x1 = low1;
    x2 = (high0 ^ x3 ^ k1) >>> 0;
    x3 = low0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = x3;
}

/** A 64-bit seed as two words. */
export interface Seed {
  readonly low: number;
  readonly high: number;
}

/** Seed from an integer. @throws {RangeError} if it is not an integer in the safe range */
export function seedFrom(value: number | bigint): Seed {
  if (typeof value === "number" && !Number.isInteger(value)) {
    throw new RangeError(`A seed must be an integer, got ${value}`);
  }
  const bits = BigInt.asUintN(64, BigInt(value));
  return { low: Number(bits & 0xffffffffn), high: Number(bits >> 32n) };
}

/** Independent seed for one branch (choice, beam, trial) of a seeded computation. */
export function forkSeed(seed: Seed, branch: number): Seed {
  const out = new Uint32Array(4);
  philox(out, branch, Math.floor(branch / 4294967296), FORK_STREAM, 0, seed.low, seed.high);
  return { low: out[0]!, high: out[1]! };
}

/** Counter word 2 keeps the uses of one seed apart. */
const FORK_STREAM = 1;
const UNIFORM_STREAM = 2;
const TOKEN_STREAM = 3;

/**
 * Gumbel(0, 1) noise of tokens 4 * block .. 4 * block + 3 at one position.
 *
 * Word w becomes u = (w + 0.5) / 2^32 in (0, 1), noise = -ln(-ln u).
 * Sampling is arg max of log-probability plus this noise (the Gumbel-max trick).
 *
 * @param position place in the sequence the token would take, 0-based
 * @param out four values, written in place
 */
export function tokenGumbel(out: Float64Array, seed: Seed, position: number, block: number): void {
  philox(words, block, position, TOKEN_STREAM, 0, seed.low, seed.high);
  for (let i = 0; i < 4; i++) out[i] = -Math.log(-Math.log((words[i]! + 0.5) / 4294967296));
}
const words = new Uint32Array(4);

/** A stream of uniform numbers that can be split by key. */
export interface Rng {
  readonly seed: Seed;
  /** Uniform in [0, 1), 32 random bits. */
  next(): number;
  /** Independent stream for branch `key`; does not move this one. */
  fork(key: number): Rng;
}

/** Uniform numbers from a seed. */
export function createRng(seed: Seed): Rng {
  let counter = 0;
  const block = new Uint32Array(4);
  return {
    seed,
    next() {
      const lane = counter % 4;
      if (lane === 0) {
        philox(block, counter / 4, 0, UNIFORM_STREAM, 0, seed.low, seed.high);
      }
      counter++;
      return block[lane]! / 4294967296;
    },
    fork: (key) => createRng(forkSeed(seed, key)),
  };
}

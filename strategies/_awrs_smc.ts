/**
 * Particles of one completion: sequential Monte Carlo with resampling by effective sample size.
 *
 * What all living particles have in common is certain to be in the completion, as whatever is chosen
 * at the end descends from one of them: it may leave at once.
 */
import { type Constraint, ConstraintError, type Rng, type TokenLogprob } from "../runtime/mod.ts";
import type { Particle } from "./_awrs_particle.ts";
import {
  effectiveSize,
  indexAt,
  logMean,
  normalized,
  offspring,
  type Resampling,
} from "./_awrs_weights.ts";

/** How particles compete. */
export interface SmcOptions {
  readonly constraint: Constraint | undefined;
  /** What else may have kept tokens away, for the message where none is left; may be empty. */
  readonly limits: string;
  /** Resample below this share of the number of particles; 0 = never. */
  readonly essThreshold: number;
  readonly resampling: Resampling;
  /** Which text comes out: drawn by weight, or the heaviest. */
  readonly choose: "draw" | "heaviest";
  readonly rng: Rng;
}

/** Equal weights have an effective size of N up to this. */
const rounding = 1e-6;

/** Tokens that leave. */
export interface Released {
  readonly tokens: readonly number[];
  readonly logprobs: readonly TokenLogprob[];
}

/** See file comment. */
export class ParticleSystem implements Disposable {
  readonly #options: SmcOptions;
  #particles: Particle[];
  #chosen: Particle | undefined;
  #released = 0;
  #length = 0;
  resamplings = 0;

  /** @param particles at least one, all at the prompt */
  constructor(particles: readonly Particle[], options: SmcOptions) {
    this.#particles = [...particles];
    this.#options = options;
  }

  /** Why the completion ended; undefined while it goes on. */
  get reason(): "stop" | "length" | undefined {
    return this.#chosen?.reason;
  }

  /**
   * Every particle that goes on draws a token, all in one step; then some may be resampled.
   *
   * @throws {ConstraintError} if none is left, or the constraint itself fails
   */
  async advance(): Promise<void> {
    await Promise.all(this.#particles.filter(({ isGoing }) => isGoing).map((p) => p.advance()));
    this.#length++;
    if (!this.#particles.some(({ isAlive }) => isAlive)) throw this.#extinct();
    if (!this.#particles.some(({ isGoing }) => isGoing)) {
      this.#chosen = this.#choose();
    } else if (this.ess < this.#options.essThreshold * this.#particles.length - rounding) {
      this.#resample();
    }
  }

  /** Tokens that are certain and have not left yet. */
  release(): Released {
    const alive = this.#chosen ? [this.#chosen] : this.#particles.filter(({ isAlive }) => isAlive);
    const [{ tokens, logprobs }] = alive as [Particle];
    const start = this.#released;
    let end = start;
    while (end < tokens.length && alive.every((other) => other.tokens[end] === tokens[end])) end++;
    this.#released = end;
    return { tokens: tokens.slice(start, end), logprobs: logprobs.slice(start, end) };
  }

  get #logWeights(): readonly number[] {
    return this.#particles.map(({ logWeight }) => logWeight);
  }

  /** Effective sample size, in [1, N]. */
  get ess(): number {
    return effectiveSize(this.#logWeights);
  }

  get alive(): number {
    return this.#particles.filter(({ isAlive }) => isAlive).length;
  }

  /** Particles that have ended by themselves. */
  get complete(): number {
    return this.#particles.filter(({ isAlive, reason }) => isAlive && reason === "stop").length;
  }

  /** ln of the mean weight; at the end of those that are complete, unless none is. */
  get logZ(): number {
    return logMean(this.#chosen ? this.#finalWeights() : this.#logWeights);
  }

  /** Cut texts count only where no whole one came out. */
  #finalWeights(): readonly number[] {
    const isAny = this.complete > 0;
    return this.#particles.map(({ logWeight, reason }) =>
      isAny && reason !== "stop" ? -Infinity : logWeight
    );
  }

  #choose(): Particle {
    const weights = normalized(this.#finalWeights());
    if (this.#options.choose === "draw") {
      return this.#particles[indexAt(weights, this.#options.rng.next())]!;
    }
    const byText = new Map<string, { weight: number; particle: Particle; highest: number }>();
    for (const [i, particle] of this.#particles.entries()) {
      if (weights[i] === 0) continue;
      const group = byText.get(particle.text) ?? { weight: 0, particle, highest: -1 };
      const isHeavier = weights[i]! > group.highest;
      byText.set(particle.text, {
        weight: group.weight + weights[i]!,
        particle: isHeavier ? particle : group.particle,
        highest: Math.max(weights[i]!, group.highest),
      });
    }
    return [...byText.values()].reduce((a, b) => b.weight > a.weight ? b : a).particle;
  }

  /** Equal weights, mean kept: particles without offspring go, others are copied into their places. */
  #resample(): void {
    const { resampling, rng } = this.#options;
    const level = logMean(this.#logWeights);
    const counts = offspring(normalized(this.#logWeights), resampling, rng);
    const seeds = this.#particles.map(({ seed }) => seed);
    const copies: Particle[] = [];
    for (const [i, particle] of this.#particles.entries()) {
      if (counts[i] === 0) particle[Symbol.dispose]();
      for (let copy = 1; copy < counts[i]!; copy++) copies.push(particle);
    }
    this.#particles = this.#particles.map((particle, i) =>
      counts[i]! > 0 ? particle : copies.pop()!.fork(seeds[i]!)
    );
    for (const particle of this.#particles) particle.logWeight = level;
    this.resamplings++;
  }

  #extinct(): ConstraintError {
    const count = this.#particles.length;
    const where = count === 1 ? "" : ` in any of ${count} particles`;
    const name = this.#options.constraint?.name ?? "none";
    const after = this.#length - 1;
    const { limits } = this.#options;
    return new ConstraintError(
      name,
      `left no token to draw${where} after ${after} tokens${limits}`,
    );
  }

  [Symbol.dispose](): void {
    for (const particle of this.#particles) particle[Symbol.dispose]();
  }
}

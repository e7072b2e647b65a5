/** Drives the rounds of all choices together and counts what they cost. */
import type { Costs, MeasuredCosts } from "./_gamma.ts";
import type { Round, Speculation } from "./_speculation.ts";
import type { StrategyContext } from "./strategy.ts";

/** A completion and the choice it becomes. */
export interface Going {
  readonly choice: number;
  readonly speculation: Speculation;
}

/** Where costs come from: measured if the run has a clock, otherwise as given. */
export interface CostSource {
  readonly costs: Costs;
  readonly measured: MeasuredCosts | undefined;
}

/** See file comment. */
export class SpeculationLog {
  readonly #trace: StrategyContext<unknown, Record<never, never>>["trace"];
  readonly #clock: () => number;
  readonly #source: CostSource;
  #proposed = 0;
  #accepted = 0;
  #tokens = 0;
  #steps = 0;
  #passes = 0;
  #computed = 0;

  constructor(
    context: Pick<StrategyContext<unknown, Record<never, never>>, "trace" | "clock">,
    source: CostSource,
  ) {
    this.#trace = context.trace;
    this.#clock = context.clock ?? (() => 0);
    this.#source = source;
  }

  /** One round of each: proposals of all, then one pass over all of them. */
  async round(going: readonly Going[]): Promise<readonly Round[]> {
    const start = this.#clock();
    const counts = await Promise.all(
      going.map(({ speculation }) => speculation.draft(going.length)),
    );
    const drafted = this.#clock();
    const rounds = await Promise.all(going.map(({ speculation }) => speculation.verify()));
    const verified = this.#clock();
    this.#count(going, rounds);
    const computed = rounds.reduce((sum, round) => sum + round.computed, 0);
    // The first pass has the prompt in it.
    if (this.#steps > 1 && computed > 0) {
      this.#source.measured?.drafted(Math.max(...counts), drafted - start);
      this.#source.measured?.verified(computed, verified - drafted);
    }
    return rounds;
  }

  #count(going: readonly Going[], rounds: readonly Round[]): void {
    this.#steps++;
    for (const [i, { tokens, proposed, accepted, computed }] of rounds.entries()) {
      this.#proposed += proposed;
      this.#accepted += accepted;
      this.#tokens += tokens.length;
      this.#passes += computed > 0 ? 1 : 0;
      this.#computed += computed;
      this.#trace({ type: "round", choice: going[i]!.choice, proposed, accepted });
    }
  }

  /**
   * Sums over all choices. `target_steps` counts passes that choices share once, `target_passes` per
   * choice; `speedup_estimate` is tokens per cost, against one pass per token.
   */
  metrics(): Readonly<Record<string, number>> {
    return {
      proposed: this.#proposed,
      accepted: this.#accepted,
      target_steps: this.#steps,
      target_passes: this.#passes,
      ...this.#isPriced() ? { speedup_estimate: this.#tokens / this.#cost() } : {},
    };
  }

  #isPriced(): boolean {
    return this.#passes > 0 && this.#source.costs.wanted?.() === undefined;
  }

  /** In passes over one token. */
  #cost(): number {
    const { costs } = this.#source;
    const mean = this.#computed / this.#passes;
    return this.#passes * costs.verify(mean, 1) + this.#proposed * costs.draft();
  }
}

/** One completion made by proposing and verifying: a round is `draft`, then `verify`. */
import {
  type Constraint,
  logNormalizer,
  sampleRow,
  type SamplingParams,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
  warpedLogprobs,
} from "../runtime/mod.ts";
import { type Chance, exponentiate } from "./_chance.ts";
import { deadEnd, type Masker } from "./_constrain.ts";
import type { Drafter } from "./_drafter.ts";
import type { GammaSchedule } from "./_gamma.ts";
import type { StopCheck } from "./strategy.ts";
import { createTrail, type Trail } from "./_trail.ts";
import {
  type Draft,
  type Verdict,
  verifyBlock,
  verifyCoupled,
  verifyRatio,
  type VerifyRule,
} from "./_verify_rules.ts";

/** Everything one completion depends on. */
export interface SpeculationOptions {
  /** At the prompt, with `gamma` + 1 tokens of rollback. */
  readonly target: Session<"edit" | "logits">;
  readonly drafter: Drafter;
  readonly rule: VerifyRule;
  readonly sampling: SamplingParams;
  readonly chance: Chance;
  readonly schedule: GammaSchedule;
  readonly maxTokens: number;
  readonly logprobs: number | undefined;
  readonly stops: StopCheck;
  readonly constraint: Constraint | undefined;
  readonly masker: Masker | undefined;
}

/** What a round gave. */
export interface Round {
  readonly tokens: readonly TokenLogprob[];
  readonly proposed: number;
  readonly accepted: number;
  /** Tokens the target computed: one more than were proposed. */
  readonly computed: number;
}

/** See file comment. */
export class Speculation implements Disposable {
  readonly #options: SpeculationOptions;
  readonly #prompt: readonly TokenId[];
  #state: unknown;
  #made = 0;
  #trail: Trail | undefined;
  #drafts: readonly Draft[] = [];
  #reason: "stop" | "length" | undefined;

  constructor(options: SpeculationOptions) {
    this.#options = options;
    this.#prompt = [...options.target.tokens];
    this.#state = options.masker?.start();
  }

  /** Why the completion ended; undefined while it goes on. */
  get reason(): "stop" | "length" | undefined {
    return this.#reason;
  }

  /** Estimated probability that a proposal is kept. */
  get acceptance(): number {
    return this.#options.schedule.acceptance;
  }

  /** Collects proposals. @param rows completions that share the pass @returns how many */
  async draft(rows: number): Promise<number> {
    const { drafter, schedule, stops, masker, maxTokens } = this.#options;
    this.#trail = createTrail(stops, masker, this.#state);
    // The round adds one token after the proposals.
    const count = Math.min(schedule.next(rows), maxTokens - this.#made - 1);
    const isOver = this.#trail.mask(0)?.isEmpty ?? false;
    this.#drafts = isOver ? [] : await drafter.propose(count, this.#trail);
    return this.#drafts.length;
  }

  /**
   * One pass of the target over the proposals; keeps some and adds a token.
   *
   * @throws {ConstraintError} if the constraint allows neither a token nor the end
   */
  async verify(): Promise<Round> {
    const { target, schedule } = this.#options;
    const drafts = this.#drafts;
    const trail = this.#trail!;
    if (trail.mask(0)?.isEmpty) return this.#finish(trail, 0);
    const base = target.length;
    target.append(drafts.map(({ token }) => token));
    const rows = await target.logits({ last: drafts.length + 1 });
    const verdict = this.#decide(rows, base);
    schedule.record(drafts.length, verdict.accepted);
    return this.#keep(rows, base, verdict);
  }

  #decide(rows: readonly Float32Array[], base: number): Verdict {
    const { rule, sampling, chance } = this.#options;
    const drafts = this.#drafts;
    const completion = this.#options.target.tokens.slice(this.#prompt.length);
    const made = base - this.#prompt.length;
    const at = (i: number) => ({
      sampling,
      mask: this.#trail!.mask(i)?.bits,
      promptTokens: this.#prompt,
      completionTokens: completion.slice(0, made + i),
    });
    if (rule === "coupled") {
      return verifyCoupled(drafts, (i) => {
        if (this.#endsAt(i)) return undefined;
        return sampleRow(rows[i]!, { ...at(i), topLogprobs: 0, position: base + i }).token;
      });
    }
    const laws: Float64Array[] = [];
    const law = (i: number) => {
      if (this.#endsAt(i)) return undefined;
      return laws[i] ??= exponentiate(warpedLogprobs(rows[i]!, at(i)));
    };
    return (rule === "block" ? verifyBlock : verifyRatio)(drafts, law, chance);
  }

  /** Whether nothing may follow the first `i` proposals. */
  #endsAt(i: number): boolean {
    const trail = this.#trail!;
    if (i < this.#drafts.length) return false;
    return trail.ended || (trail.mask(i)?.isEmpty ?? false);
  }

  #keep(rows: readonly Float32Array[], base: number, { accepted, token }: Verdict): Round {
    const { target, drafter, stops, masker, maxTokens } = this.#options;
    const drafts = this.#drafts;
    const kept = drafts.slice(0, accepted).map((draft) => draft.token);
    if (token !== undefined) kept.push(token);
    const proposed = drafts.length;
    const round = (length: number): Round => ({
      tokens: kept.slice(0, length).map((id, i) => this.#logprob(rows[i]!, id)),
      proposed,
      accepted: Math.min(accepted, length),
      computed: proposed + 1,
    });
    for (const [i, id] of kept.entries()) {
      this.#made++;
      if (stops.push(id)) this.#reason = "stop";
      else if (this.#made === maxTokens) this.#reason = "length";
      if (this.#reason) return round(i + 1);
    }
    if (token === undefined) {
      this.#finish(this.#trail!, accepted);
      return round(kept.length);
    }
    this.#state = masker?.advance(this.#trail!.state(accepted), token);
    target.truncate(base + accepted);
    target.append([token]);
    drafter.settle({ drafts, accepted, token, rows });
    return round(kept.length);
  }

  /** Nothing may follow the first `i` proposals: the constraint is complete, or failed. */
  #finish(trail: Trail, i: number): Round {
    if (!trail.mask(i)!.isComplete) throw deadEnd(this.#options.constraint!);
    this.#reason = "stop";
    return { tokens: [], proposed: 0, accepted: 0, computed: 0 };
  }

  #logprob(row: Float32Array, token: TokenId): TokenLogprob {
    const { logprobs } = this.#options;
    if (logprobs === undefined) return { token, logprob: 0, top: [] };
    const normalizer = logNormalizer(row);
    const top = topCandidates(row, logprobs, normalizer);
    return { token, logprob: row[token]! - normalizer, top };
  }

  [Symbol.dispose](): void {
    this.#options.target[Symbol.dispose]();
    this.#options.drafter[Symbol.dispose]();
  }
}

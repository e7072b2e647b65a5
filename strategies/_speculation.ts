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
import type { Drafter, DraftTree, RoundEnd } from "./_drafter.ts";
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
  verifySiblings,
} from "./_verify_rules.ts";

/** Everything one completion depends on. */
export interface SpeculationOptions {
  /** At the prompt, with `gamma` + 1 tokens of rollback. */
  readonly target: Session<"edit" | "logits">;
  /** The same session, to verify trees instead of chains; needs the rule `coupled` or `ratio`. */
  readonly tree: Session<"tree"> | undefined;
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

/** A round's decision: a path of proposals, the rows along it, and rows beside it. */
interface Outcome extends Verdict {
  readonly drafts: readonly Draft[];
  readonly rows: readonly Float32Array[];
  readonly seen?: RoundEnd["seen"];
}

/** See file comment. */
export class Speculation implements Disposable {
  readonly #options: SpeculationOptions;
  readonly #prompt: readonly TokenId[];
  readonly #completion: TokenId[] = [];
  #state: unknown;
  #trail: Trail | undefined;
  #drafts: readonly Draft[] = [];
  #nodes: DraftTree = { tokens: [], parents: [] };
  #reason: "stop" | "length" | undefined;

  constructor(options: SpeculationOptions) {
    this.#options = options;
    this.#prompt = [...options.target.tokens];
    this.#state = options.masker?.start();
    // The last token is the root of each tree, so that the pass gives its row too.
    if (options.tree) options.target.truncate(this.#prompt.length - 1);
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
    const { drafter, schedule, stops, masker, maxTokens, tree } = this.#options;
    this.#trail = createTrail(stops, masker, this.#state);
    // The round adds one token after the proposals.
    const count = Math.min(schedule.next(rows), maxTokens - this.#completion.length - 1);
    if (this.#trail.mask(0)?.isEmpty) return 0;
    if (tree) {
      this.#nodes = count > 0 ? await drafter.proposeTree!(count) : { tokens: [], parents: [] };
      return this.#nodes.tokens.length;
    }
    this.#drafts = await drafter.propose(count, this.#trail);
    return this.#drafts.length;
  }

  /**
   * One pass of the target over the proposals; keeps some and adds a token.
   *
   * @throws {ConstraintError} if the constraint allows neither a token nor the end
   */
  async verify(): Promise<Round> {
    const { target, tree, schedule } = this.#options;
    const drafts = this.#drafts;
    const trail = this.#trail!;
    if (trail.mask(0)?.isEmpty) return this.#finish(trail, 0);
    if (tree) return this.#keep(await this.#walk(tree, trail), this.#nodes.tokens.length);
    target.append(drafts.map(({ token }) => token));
    const rows = await target.logits({ last: drafts.length + 1 });
    const verdict = this.#decide(rows);
    schedule.record(drafts.length, verdict.accepted);
    return this.#keep({ ...verdict, rows, drafts }, drafts.length);
  }

  #decide(rows: readonly Float32Array[]): Verdict {
    const { rule, chance } = this.#options;
    const drafts = this.#drafts;
    const tokens = [...this.#completion, ...drafts.map(({ token }) => token)];
    const before = (i: number) => tokens.slice(0, this.#completion.length + i);
    if (rule === "coupled") {
      return verifyCoupled(
        drafts,
        (i) => this.#endsAt(i) ? undefined : this.#pick(rows[i]!, i, before(i)),
      );
    }
    const laws: Float64Array[] = [];
    const law = (i: number) => {
      if (this.#endsAt(i)) return undefined;
      return laws[i] ??= exponentiate(warpedLogprobs(rows[i]!, this.#shape(i, before(i))));
    };
    return (rule === "block" ? verifyBlock : verifyRatio)(drafts, law, chance);
  }

  #shape(i: number, completionTokens: readonly TokenId[]) {
    const { sampling } = this.#options;
    const mask = this.#trail!.mask(i)?.bits;
    return { sampling, mask, promptTokens: this.#prompt, completionTokens };
  }

  /** What the target alone would draw after `before`, which has `i` tokens of this round. */
  #pick(row: Float32Array, i: number, before: readonly TokenId[]): TokenId {
    const position = this.#prompt.length + before.length;
    return sampleRow(row, { ...this.#shape(i, before), topLogprobs: 0, position }).token;
  }

  /** Whether nothing may follow the first `i` proposals. */
  #endsAt(i: number): boolean {
    const trail = this.#trail!;
    if (i < this.#drafts.length) return false;
    return trail.ended || (trail.mask(i)?.isEmpty ?? false);
  }

  /** One pass over a tree, then along what the rule picks while those are nodes. */
  async #walk(session: Session<"tree">, trail: Trail): Promise<Outcome> {
    const { tokens, parents } = this.#nodes;
    const last = this.#completion.at(-1) ?? this.#prompt.at(-1)!;
    const all = await session.tree({
      tokens: [last, ...tokens],
      parents: [-1, ...parents.map((parent) => parent + 1)],
    });
    const rows = [all[0]!];
    const drafts: Draft[] = [];
    const before = [...this.#completion];
    const seen = tokens.map((token, i) => [token, all[i + 1]!] as const);
    for (let node = -1;;) {
      const picked = this.#choose(rows.at(-1)!, node, before, drafts.length);
      const child = tokens.findIndex((token, i) => token === picked && parents[i] === node);
      if (child < 0) return { drafts, rows, seen, accepted: drafts.length, token: picked };
      drafts.push({ token: picked, law: undefined });
      before.push(picked);
      rows.push(all[child + 1]!);
      node = child;
      const goesOn = trail.push(picked);
      if (!goesOn) return { drafts, rows, seen, accepted: drafts.length, token: undefined };
    }
  }

  /** The token after a node of the tree. */
  #choose(row: Float32Array, node: number, before: readonly TokenId[], i: number): TokenId {
    const { rule, chance } = this.#options;
    if (rule === "coupled") return this.#pick(row, i, before);
    const { tokens, parents, laws } = this.#nodes;
    const children = tokens.filter((_, child) => parents[child] === node);
    const p = exponentiate(warpedLogprobs(row, this.#shape(i, before)));
    return verifySiblings(p, children, laws?.[node + 1], chance);
  }

  #keep({ drafts, rows, seen, accepted, token }: Outcome, proposed: number): Round {
    const { drafter, stops, masker, maxTokens } = this.#options;
    const kept = drafts.slice(0, accepted).map((draft) => draft.token);
    if (token !== undefined) kept.push(token);
    const round = (length: number): Round => ({
      tokens: kept.slice(0, length).map((id, i) => this.#logprob(rows[i]!, id)),
      proposed,
      accepted: Math.min(accepted, length),
      computed: proposed + 1,
    });
    for (const [i, id] of kept.entries()) {
      this.#completion.push(id);
      if (stops.push(id)) this.#reason = "stop";
      else if (this.#completion.length === maxTokens) this.#reason = "length";
      if (this.#reason) return round(i + 1);
    }
    if (token === undefined) {
      this.#finish(this.#trail!, accepted);
      return round(kept.length);
    }
    this.#state = masker?.advance(this.#trail!.state(accepted), token);
    this.#moveTarget();
    drafter.settle({ drafts, accepted, token, rows, seen });
    return round(kept.length);
  }

  /** Brings the target's session to the committed tokens; for trees without the last one. */
  #moveTarget(): void {
    const { target, tree } = this.#options;
    if (tree) {
      const all = [...this.#prompt, ...this.#completion];
      target.append(all.slice(target.length, -1));
      return;
    }
    target.truncate(this.#prompt.length + this.#completion.length - 1);
    target.append(this.#completion.slice(-1));
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

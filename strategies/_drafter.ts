/** Where proposals come from: the interface, and drafting with a second model. */
import {
  logNormalizer,
  type SamplingParams,
  type Session,
  type TokenId,
  warpedLogprobs,
} from "../runtime/mod.ts";
import { type Chance, exponentiate } from "./_chance.ts";
import type { Trail } from "./_trail.ts";
import type { Draft } from "./_verify_rules.ts";

/** How a round ended. */
export interface RoundEnd {
  readonly drafts: readonly Draft[];
  /** How many of them were kept. */
  readonly accepted: number;
  /** The token after those. */
  readonly token: TokenId;
  /** The target's logits before the first proposal and after each of them. */
  readonly rows: readonly Float32Array[];
  /** Tokens of a tree and the target's logits after each. */
  readonly seen?: readonly (readonly [TokenId, Float32Array])[] | undefined;
}

/** Proposals in a tree, parents first; -1 = after the committed tokens. */
export interface DraftTree {
  readonly tokens: readonly TokenId[];
  readonly parents: readonly number[];
  /**
   * Laws the children were drawn from without replacement, in this order: of the committed tokens, then
   * of each node; undefined for leaves. Absent: children were not drawn.
   */
  readonly laws?: readonly (Float64Array | undefined)[];
}

/** Proposes continuations of one sequence. */
export interface Drafter extends Disposable {
  /** At most `count` proposals, each pushed to the trail. */
  propose(count: number, trail: Trail): Promise<readonly Draft[]>;
  /** A tree of at most `depth` levels, for drafters that make one. */
  proposeTree?(depth: number): Promise<DraftTree>;
  /** Moves on by the tokens kept. */
  settle(end: RoundEnd): void;
}

/** How a second model drafts. */
export interface ModelDraftOptions {
  /** Sampling of the draft; its seed is the target's where noise is shared. */
  readonly sampling: SamplingParams;
  readonly promptLength: number;
  /** Draws proposals and keeps their laws; undefined: noise shared with the target, no laws. */
  readonly chance: Chance | undefined;
  /** Drafting ends after a token whose raw probability is below this. */
  readonly stopBelow: number;
}

/** Drafts with a model: one ask per proposal. */
export function modelDrafter(
  session: Session<"edit" | "generate" | "sample" | "logits">,
  options: ModelDraftOptions,
): Drafter {
  let base = session.length;
  return {
    async propose(count, trail) {
      base = session.length;
      const drafts: Draft[] = [];
      if (count === 0) return drafts;
      for await (const { draft, logprob } of proposals(session, count, trail, options)) {
        drafts.push(draft);
        if (!trail.push(draft.token) || logprob < Math.log(options.stopBelow)) break;
      }
      return drafts;
    },
    settle({ accepted, token }) {
      session.truncate(base + accepted);
      session.append([token]);
    },
    [Symbol.dispose]: () => session[Symbol.dispose](),
  };
}

/** A proposal and its raw log-probability. The session ends with the last one taken. */
interface Proposal {
  readonly draft: Draft;
  readonly logprob: number;
}

function proposals(
  session: Session<"edit" | "generate" | "sample" | "logits">,
  count: number,
  trail: Trail,
  options: ModelDraftOptions,
): AsyncGenerator<Proposal, void, void> {
  const { chance } = options;
  if (chance) return drawn(session, count, trail, { ...options, chance });
  return trail.mask(0)
    ? masked(session, count, trail, options)
    : generated(session, count, options);
}

/** Without a mask the model decodes by itself, and may run ahead. */
async function* generated(
  session: Session<"generate">,
  count: number,
  { sampling }: ModelDraftOptions,
): AsyncGenerator<Proposal, void, void> {
  const asked = { sampling, maxTokens: count, ignoreStop: true };
  for await (const { token, logprob } of session.generate(asked)) {
    yield { draft: { token, law: undefined }, logprob };
  }
}

async function* masked(
  session: Session<"edit" | "sample">,
  count: number,
  trail: Trail,
  { sampling }: ModelDraftOptions,
): AsyncGenerator<Proposal, void, void> {
  for (let i = 0; i < count; i++) {
    const { bits, isEmpty } = trail.mask(i)!;
    if (isEmpty) return;
    const { token, logprob } = await session.sample({ sampling, mask: bits });
    session.append([token]);
    yield { draft: { token, law: undefined }, logprob };
  }
}

async function* drawn(
  session: Session<"edit" | "logits">,
  count: number,
  trail: Trail,
  { sampling, promptLength, chance, stopBelow }: ModelDraftOptions & { readonly chance: Chance },
): AsyncGenerator<Proposal, void, void> {
  const promptTokens = session.tokens.slice(0, promptLength);
  for (let i = 0; i < count; i++) {
    const mask = trail.mask(i);
    if (mask?.isEmpty) return;
    const [row] = await session.logits();
    const completionTokens = session.tokens.slice(promptLength);
    const shape = { sampling, mask: mask?.bits, promptTokens, completionTokens };
    const law = exponentiate(warpedLogprobs(row!, shape));
    const token = chance.draw(law);
    session.append([token]);
    const logprob = stopBelow > 0 ? row![token]! - logNormalizer(row!) : 0;
    yield { draft: { token, law }, logprob };
  }
}

/** How a particle gets its next token and what that is worth: the interface, and what sources share. */
import {
  allowedMass,
  type Constraint,
  logNormalizer,
  sampleRow,
  type Seed,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
  type Vocab,
} from "../runtime/mod.ts";
import { isPossible, type LawContext } from "./_awrs_law.ts";

/** Where a particle stands, besides its constraint. */
export interface Place extends LawContext {
  readonly seed: Seed;
  /** Place in the sequence the next token takes. */
  readonly position: number;
  /** No token may come after the next one. */
  readonly isLast: boolean;
  /** How many top log-probabilities somebody reads; undefined = none at all. */
  readonly logprobs: number | undefined;
}

/** A step's outcome. */
export type Step =
  | {
    readonly kind: "token";
    readonly token: TokenId;
    /** Natural log of the weight's factor. */
    readonly logWeight: number;
    /** The constraint's state after it; the one before, if it is a stop token. */
    readonly next: unknown;
  }
  /** The text is complete and nothing may follow. */
  | { readonly kind: "complete" }
  /** Nothing is allowed here, or nothing allowed was found. */
  | { readonly kind: "dead" };

/** What may come at one state, given a row. */
export interface RowSpot {
  /** How the sequence ends here, where that is known without the model. */
  readonly end: Step | undefined;
  /** @param row logits, shape [vocab] */
  draw(row: Float32Array, place: Place): Promise<Step> | Step;
}

/** Decides by rows of logits. */
export interface RowSource {
  start(): unknown;
  at(state: unknown): RowSpot;
  /** Questions to the constraint so far; a mask counts as one. */
  readonly checks: number;
}

/** A step's outcome, and what the model says about a token there, of its raw distribution. */
export interface Told {
  readonly step: Step;
  logprob(token: TokenId, top: number): TokenLogprob;
}

/** Where particles with sessions of this kind get their tokens. */
export interface TokenSource<S> {
  start(): unknown;
  /** Draws what comes after the session, at a state of the constraint. Appends nothing. */
  draw(session: S, state: unknown, place: Place): Promise<Told>;
  readonly checks: number;
}

/** Asks for one row per step, unless the constraint alone decides. */
export function fromRows(source: RowSource): TokenSource<Session<"edit" | "logits">> {
  return {
    start: () => source.start(),
    async draw(session, state, place) {
      const spot = source.at(state);
      if (spot.end) return { step: spot.end, logprob: nothingDrawn };
      const [row] = await session.logits();
      const step = await spot.draw(row!, place);
      return { step, logprob: (token, top) => rawLogprob(row!, token, top) };
    },
    get checks() {
      return source.checks;
    },
  };
}

function nothingDrawn(): never {
  throw new TypeError("Nothing was drawn, so no log-probability is known");
}

/** What a row says about a token. */
export function rawLogprob(row: Float32Array, token: TokenId, top: number): TokenLogprob {
  const normalizer = logNormalizer(row);
  return { token, logprob: row[token]! - normalizer, top: topCandidates(row, top, normalizer) };
}

/** Which estimator steps use, and its limits. */
export interface EstimatorChoice {
  readonly estimator: "auto" | "mask" | "two-loop" | "recursive" | "geometric";
  /** Whether tokens are weighed. */
  readonly isProper: boolean;
  readonly prune: boolean;
  readonly maxAccepts: number;
  readonly maxRejects: number;
}

/** What sources depend on. */
export interface SourceOptions extends EstimatorChoice {
  readonly constraint: Constraint;
  readonly vocab: Vocab;
  readonly ignoreStop: boolean;
  readonly signal: AbortSignal;
}

export const dead: Step = { kind: "dead" };
export const complete: Step = { kind: "complete" };

/** What `sample` draws under the mask; the weight is the mass that is allowed. */
export function underMask(
  row: Float32Array,
  place: Place,
  mask: Uint32Array,
  isProper: boolean,
): Step {
  const isWeighed = isProper && place.sampling.temperature > 0;
  const mass = isWeighed ? allowedMass(row, mask, place) : +isPossible(row, mask);
  if (mass === 0) return dead;
  const token = sampled(row, place, mask);
  return { kind: "token", token, logWeight: Math.log(mass), next: undefined };
}

/**
 * At the limit, the end of a complete text: proposed with certainty, so that its probability is the
 * weight. Undefined elsewhere, at temperature 0, and where the end is impossible.
 */
export function forcedEnd(
  row: Float32Array,
  place: Place,
  ends: Uint32Array,
  state: unknown,
): Step | undefined {
  if (!place.isLast || place.sampling.temperature === 0) return undefined;
  const step = underMask(row, place, ends, true);
  return step.kind === "token" ? { ...step, next: state } : undefined;
}

/** One bit per stop token, [ceil(vocab / 32)]. */
export function stopMask(vocab: Vocab): Uint32Array {
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  for (const token of vocab.stopTokens) bits[token >> 5]! |= 1 << (token & 31);
  return bits;
}

/** What `sample` draws. */
export function sampled(row: Float32Array, place: Place, mask: Uint32Array | undefined): TokenId {
  const { seed, position, promptTokens, completionTokens } = place;
  const sampling = { ...place.sampling, seed };
  const shape = { sampling, mask, promptTokens, completionTokens, topLogprobs: 0, position };
  return sampleRow(row, shape).token;
}

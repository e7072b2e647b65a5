/**
 * Rules by which a small and a large model share the next token: the law pi, from both models' laws.
 *
 * q and p are the small and the large model's laws as the request shapes them; criteria look at q1 and
 * p1, the same at temperature 1 without filters, so that neither temperature nor top-p decides who
 * speaks.
 *
 * Sources: token and position rules, Narasimhan et al. 2024, "Faster cascades via speculative
 * decoding", https://arxiv.org/abs/2405.19261; `margin` and the measuring rule `oracle`, Zhang et al.
 * 2024, "Fast and slow generating", https://arxiv.org/abs/2406.12295.
 */
import { greedySampling, type SamplingParams } from "../runtime/mod.ts";
import { type Combination, type DrawShape, ownLaw } from "./_combine.ts";

/** Rules that let one model speak for a whole position. */
export type PositionRule = "oracle" | "chow" | "diff" | "opt" | "margin" | "always" | "never";

/** Rules that let the small model decide some tokens. */
export type TokenRule = "token-v1" | "token-v2" | "token-v3";

/** A law of a small and a large model. Rows are in this order: large, small. */
export interface CascadeRule extends Combination {
  /** Probability that the small model's own draw stood, of the law asked for last: q(S), or 0 or 1. */
  readonly smallShare: number;
}

/** Whether the small model speaks; both laws at temperature 1, without filters. */
type Criterion = (p: Float64Array, q: Float64Array) => boolean;

/** pi = q where the small model speaks, otherwise p. `oracle`: otherwise the large model's best. */
export function positionRule(rule: PositionRule, alpha: number, margin: number): CascadeRule {
  const isSmalls = criterionOf(rule, alpha, margin);
  return remembering((rows, shape) => isSmalls(first(rows[0]!, shape), first(rows[1]!, shape)), {
    share: (speaks) => +speaks,
    law([large, small], shape, speaks) {
      if (speaks) return ownLaw(small!, shape);
      return rule === "oracle" ? bestOf(first(large!, shape)) : ownLaw(large!, shape);
    },
    raw: ([large, small], speaks) => speaks ? small! : large!,
  });
}

/** Whether the small model speaks, for rules that can tell from its law alone. */
export function smallSpeaks(
  rule: "chow" | "margin" | "always" | "never",
  row: Float32Array,
  { shape, alpha, margin }: {
    readonly shape: DrawShape;
    readonly alpha: number;
    readonly margin: number;
  },
): boolean {
  if (rule === "always" || rule === "never") return rule === "never";
  const q = first(row, shape);
  return criterionOf(rule, alpha, margin)(q, q);
}

function criterionOf(rule: PositionRule, alpha: number, margin: number): Criterion {
  switch (rule) {
    case "always":
      return () => false;
    case "never":
      return () => true;
    case "oracle":
      return (p, q) => argMax(p) === argMax(q);
    case "chow":
      return (_, q) => highest(q) >= 1 - alpha;
    case "margin":
      return (_, q) => lead(q) / 2 >= margin;
    case "diff":
      return (p, q) => highest(q) >= highest(p) - alpha;
    case "opt":
      return (p, q) => {
        const distance = totalVariation(p, q);
        // However large alpha is, equal laws leave nothing to trade.
        return highest(q) >= highest(p) - (distance === 0 ? 0 : alpha * distance);
      };
  }
}

/** pi(v) = q(v) [v in S] + (1 - q(S)) p(v): the small model decides the tokens of S. */
export function tokenRule(rule: TokenRule, alpha: number): CascadeRule {
  return remembering((rows, shape) => smallsTokens(rule, alpha, rows, shape), {
    share: ({ share }) => share,
    law([large, small], shape, decided) {
      const q = ownLaw(small!, shape);
      const p = ownLaw(large!, shape);
      const share = shareOf(q, decided.tokens);
      decided.share = share;
      return p.map((mass, v) => (decided.tokens[v] ? q[v]! : 0) + (1 - share) * mass);
    },
    raw([large, small], { tokens }) {
      const q = plainLaw(small!);
      const p = plainLaw(large!);
      const share = shareOf(q, tokens);
      return Float32Array.from(
        p,
        (mass, v) => Math.log((tokens[v] ? q[v]! : 0) + (1 - share) * mass),
      );
    },
  });
}

interface Decided {
  /** 1 for tokens of S. */
  readonly tokens: Uint8Array;
  share: number;
}

function smallsTokens(
  rule: TokenRule,
  alpha: number,
  [large, small]: readonly Float32Array[],
  shape: DrawShape,
): Decided {
  const p = first(large!, shape);
  const [of, floor] = rule === "token-v3"
    ? [p, (1 - alpha) * highest(p)]
    : [rule === "token-v1" ? first(small!, shape) : p, highest(p) - alpha];
  return { tokens: Uint8Array.from(of, (mass) => +(mass >= floor)), share: 0 };
}

/**
 * Decides once per set of rows: the raw law is asked for after the law, of the same rows, and has to
 * tell who spoke under the request's shape.
 */
function remembering<D>(
  decide: (rows: readonly Float32Array[], shape: DrawShape) => D,
  { share, law, raw }: {
    readonly share: (decided: D) => number;
    readonly law: (rows: readonly Float32Array[], shape: DrawShape, decided: D) => Float64Array;
    readonly raw: (rows: readonly Float32Array[], decided: D) => Float32Array;
  },
): CascadeRule {
  let last: { readonly rows: readonly Float32Array[]; readonly decided: D } | undefined;
  return {
    get smallShare() {
      return last ? share(last.decided) : 0;
    },
    law(rows, shape) {
      last = { rows, decided: decide(rows, shape) };
      return law(rows, shape, last.decided);
    },
    raw: (rows) => raw(rows, last?.rows === rows ? last.decided : decide(rows, plainShape)),
  };
}

const plainSampling: SamplingParams = { ...greedySampling, temperature: 1 };
const plainShape: DrawShape = {
  sampling: plainSampling,
  promptTokens: [],
  completionTokens: [],
};

/** The law criteria look at: bias, penalties and mask, at temperature 1, without filters. */
function first(row: Float32Array, shape: DrawShape): Float64Array {
  const sampling = {
    ...shape.sampling,
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    typicalP: 1,
  };
  return ownLaw(row, { ...shape, sampling });
}

function plainLaw(row: Float32Array): Float64Array {
  return ownLaw(row, plainShape);
}

function highest(law: Float64Array): number {
  let best = 0;
  for (let v = 0; v < law.length; v++) if (law[v]! > best) best = law[v]!;
  return best;
}

/** Ties by lower id. */
function argMax(law: Float64Array): number {
  return law.indexOf(highest(law));
}

/** How far the best token is ahead of the second. */
function lead(law: Float64Array): number {
  let best = 0, second = 0;
  for (let v = 0; v < law.length; v++) {
    if (law[v]! > best) {
      second = best;
      best = law[v]!;
    } else if (law[v]! > second) {
      second = law[v]!;
    }
  }
  return best - second;
}

/** Half the summed differences, as the mass of q above p. */
function totalVariation(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  for (let v = 0; v < p.length; v++) sum += Math.max(0, q[v]! - p[v]!);
  return sum;
}

function shareOf(law: Float64Array, tokens: Uint8Array): number {
  let sum = 0;
  for (let v = 0; v < law.length; v++) if (tokens[v]) sum += law[v]!;
  return Math.min(1, sum);
}

function bestOf(law: Float64Array): Float64Array {
  const out = new Float64Array(law.length);
  out[argMax(law)] = 1;
  return out;
}

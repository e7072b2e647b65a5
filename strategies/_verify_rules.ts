/**
 * How many proposals of a cheap law are kept, and which token follows them, so that the result is
 * distributed as the target's own draws. Pure: laws in, decision out.
 *
 * Sources: `ratio` Leviathan et al. 2022, https://arxiv.org/abs/2211.17192, algorithm 1, and Chen et
 * al. 2023; `block` Sun et al. 2024, https://arxiv.org/abs/2403.10444; `coupled` Daliri, Musco and
 * Suresh 2024, https://arxiv.org/abs/2408.07978.
 */
import type { TokenId } from "../runtime/mod.ts";
import type { Chance } from "./_chance.ts";

/** A proposed token. */
export interface Draft {
  readonly token: TokenId;
  /** Probabilities it was drawn with, shape [vocab]; undefined = it was certain. */
  readonly law: Float64Array | undefined;
}

/** What becomes of the proposals. */
export interface Verdict {
  /** How many of them stay. */
  readonly accepted: number;
  /** The token after those; undefined where nothing may follow them. */
  readonly token: TokenId | undefined;
}

/** The target's law after the first `i` proposals, shape [vocab]; undefined: nothing may follow. */
export type TargetLaw = (i: number) => Float64Array | undefined;

/** Name of a rule. */
export type VerifyRule = "coupled" | "ratio" | "block";

/**
 * Token by token: keeps x with probability min(1, p(x) / q(x)), otherwise draws from what is left of
 * p above q. One-hot laws make this the greedy comparison.
 */
export function verifyRatio(
  drafts: readonly Draft[],
  law: TargetLaw,
  chance: Chance,
): Verdict {
  for (const [i, draft] of drafts.entries()) {
    const p = law(i)!;
    if (chance.coin(p[draft.token] ?? 0, proposed(draft))) continue;
    return { accepted: i, token: chance.draw(residual(p, draft, 1)) };
  }
  const last = law(drafts.length);
  return { accepted: drafts.length, token: last && chance.draw(last) };
}

/** The whole block at once: the same law, and in expectation never fewer tokens than `ratio`. */
export function verifyBlock(
  drafts: readonly Draft[],
  law: TargetLaw,
  chance: Chance,
): Verdict {
  const weights = blockWeights(drafts, law);
  let kept = drafts.length;
  // The largest index whose coin shows heads: coins are independent, so from the end.
  while (kept > 0 && !chance.coin(heads(kept, weights, drafts, law), 1)) kept--;
  if (kept < drafts.length) {
    return {
      accepted: kept,
      token: chance.draw(residual(law(kept)!, drafts[kept]!, weights[kept]!)),
    };
  }
  const last = law(kept);
  return { accepted: kept, token: last && chance.draw(last) };
}

/** w_0 = 1, w_i = min(1, w_(i-1) p_i(x_i) / q_i(x_i)). */
function blockWeights(drafts: readonly Draft[], law: TargetLaw): readonly number[] {
  const weights = [1];
  for (const [i, draft] of drafts.entries()) {
    const p = weights[i]! * (law(i)![draft.token] ?? 0);
    const q = proposed(draft);
    weights.push(p >= q ? (p > 0 ? 1 : 0) : p / q);
  }
  return weights;
}

function heads(
  i: number,
  weights: readonly number[],
  drafts: readonly Draft[],
  law: TargetLaw,
): number {
  const weight = weights[i]!;
  if (i === drafts.length) return weight;
  const excess = total(excessOf(law(i)!, drafts[i]!, weight));
  if (excess === 0) return weight < 1 ? 0 : 1; // at 0 / 0 both are the limit
  return excess / (excess + 1 - weight);
}

/**
 * Recursive rejection sampling: siblings drawn without replacement, in the order they were drawn, each
 * against what the ones before left of the target's law.
 *
 * Source: Yang et al. 2024, https://arxiv.org/abs/2401.06706, algorithm 2. Without a law (children that
 * were chosen, not drawn) the target's draw decides, which is exact for any children.
 *
 * @param law the children were drawn from; undefined = they were not drawn
 * @returns the token that comes next: distributed as p, a child's as often as can be
 */
export function verifySiblings(
  p: Float64Array,
  children: readonly TokenId[],
  law: Float64Array | undefined,
  chance: Chance,
): TokenId {
  if (!law) return chance.draw(p);
  let target = p;
  const rest = law.slice();
  for (const token of children) {
    const mass = total(rest);
    if (mass === 0) break;
    for (let v = 0; v < rest.length; v++) rest[v]! /= mass;
    if (chance.coin(target[token] ?? 0, rest[token]!)) return token;
    const excess = excessOf(target, { token, law: rest }, 1);
    const left = total(excess);
    if (left === 0) break; // the rejection was rounding
    target = excess.map((share) => share / left);
    rest[token] = 0;
  }
  return chance.draw(target);
}

/**
 * Keeps proposals while they are the target's own picks. With noise shared between draft and target
 * the result is what the target alone picks, whatever was proposed.
 *
 * @param pick the target's pick after the first `i` proposals; undefined: nothing may follow
 */
export function verifyCoupled(
  drafts: readonly Draft[],
  pick: (i: number) => TokenId | undefined,
): Verdict {
  for (const [i, { token }] of drafts.entries()) {
    const picked = pick(i);
    if (picked !== token) return { accepted: i, token: picked };
  }
  return { accepted: drafts.length, token: pick(drafts.length) };
}

/** What is left of weight * p above q, to draw from after a rejection. */
export function residual(p: Float64Array, draft: Draft, weight: number): Float64Array {
  const rest = excessOf(p, draft, weight);
  // Nothing is left only if p = q up to rounding; then the rejection was rounding too.
  return total(rest) > 0 ? rest : p;
}

function excessOf(p: Float64Array, { token, law }: Draft, weight: number): Float64Array {
  const rest = new Float64Array(p.length);
  if (law) {
    for (let i = 0; i < p.length; i++) rest[i] = Math.max(0, weight * p[i]! - (law[i] ?? 0));
    return rest;
  }
  for (let i = 0; i < p.length; i++) rest[i] = weight * p[i]!;
  rest[token] = 0;
  return rest;
}

function proposed({ token, law }: Draft): number {
  return law ? law[token]! : 1;
}

function total(weights: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  return sum;
}

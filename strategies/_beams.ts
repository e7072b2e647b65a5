/** Hypotheses of a beam search, the rules for ranking and stopping, and how sessions move on. */
import type { TokenId, TokenLogprob } from "../runtime/mod.ts";

/** Tokens found so far, newest first; shared between the beams that have them in common. */
export interface Path {
  readonly token: TokenLogprob;
  readonly before: Path | undefined;
}

/** Tokens of a path, oldest first. */
export function tokensOf(path: Path | undefined): TokenLogprob[] {
  const tokens: TokenLogprob[] = [];
  for (let at = path; at; at = at.before) tokens.push(at.token);
  return tokens.reverse();
}

/** A completed hypothesis. */
export interface Hypothesis {
  readonly path: Path | undefined;
  /** Sum of log-probabilities the search adds up. */
  readonly sum: number;
  /** sum / length^length_penalty. */
  readonly score: number;
  readonly length: number;
  readonly reason: "stop" | "length";
}

/** When a search with enough hypotheses may stop. */
export type EarlyStopping = boolean | "never";

/** Score of a hypothesis: its sum over a power of its length in tokens, stop token included. */
export function lengthScore(sum: number, length: number, penalty: number): number {
  return length === 0 ? sum : sum / length ** penalty;
}

/** The best hypotheses found so far, at most `width` of them, best first. */
export class Hypotheses {
  readonly #width: number;
  #best: readonly Hypothesis[] = [];

  constructor(width: number) {
    this.#width = width;
  }

  get best(): readonly Hypothesis[] {
    return this.#best;
  }

  get isFull(): boolean {
    return this.#best.length === this.#width;
  }

  /** Keeps a hypothesis if it is among the best; between equals the earlier one. */
  add(hypothesis: Hypothesis): void {
    const at = this.#best.findIndex(({ score }) => score < hypothesis.score);
    const place = at < 0 ? this.#best.length : at;
    this.#best = this.#best.toSpliced(place, 0, hypothesis).slice(0, this.#width);
  }

  /**
   * Whether the search may stop: with `true` as soon as there are `width` hypotheses; with `false`
   * when the best live beam, scored at its present length, cannot beat the worst of them; with
   * "never" the same at the most favourable length it may still reach.
   */
  isDone(live: LiveState, rule: EarlyStopping, penalty: number): boolean {
    if (live.bestSum === undefined) return true;
    if (!this.isFull) return false;
    if (rule === true) return true;
    const length = rule === "never" && penalty > 0 ? live.maxLength : live.length;
    return lengthScore(live.bestSum, length, penalty) <= this.#best.at(-1)!.score;
  }
}

/** Where the live beams stand. */
export interface LiveState {
  /** Sum of the best live beam; undefined if there is none. */
  readonly bestSum: number | undefined;
  readonly length: number;
  readonly maxLength: number;
}

/** A session, or something around one, that beams move along. */
export interface Movable<S> extends Disposable {
  append(tokens: readonly TokenId[]): void;
  fork(): S;
}

/**
 * Sessions of the chosen children, in their order: a parent's last child takes its session over,
 * the others fork it; parents without children are closed. Never more sessions than the larger of
 * both sides.
 */
export function moveSessions<S extends Movable<S>>(
  parents: readonly S[],
  children: readonly { readonly parent: S; readonly token: TokenId }[],
): S[] {
  const left = new Map<S, number>();
  for (const { parent } of children) left.set(parent, (left.get(parent) ?? 0) + 1);
  for (const parent of parents) if (!left.has(parent)) parent[Symbol.dispose]();
  return children.map(({ parent, token }) => {
    const more = left.get(parent)! - 1;
    left.set(parent, more);
    const session = more === 0 ? parent : parent.fork();
    session.append([token]);
    return session;
  });
}

/** Tokens found by asking a constraint about one at a time. */
import type { TokenId } from "../runtime/mod.ts";
import {
  type Drawn,
  type Estimator,
  firstAllowed,
  geometric,
  recursive,
  twoLoop,
  type Urn,
} from "./_awrs_estimators.ts";
import { type Judge, Judges, pruningMask } from "./_awrs_judge.ts";
import { isPossible, rankedLaw, stepLaw } from "./_awrs_law.ts";
import {
  complete,
  dead,
  type EstimatorChoice,
  forcedEnd,
  type Place,
  type RowSource,
  type SourceOptions,
  type Step,
  stopMask,
} from "./_awrs_source.ts";
import { gumbelUrn } from "./_awrs_urn.ts";

/** Questions between two looks at the event loop, so that a long search can be cancelled. */
const checksPerTurn = 256;

/** Decides by rows and questions about single tokens. */
export interface JudgedRows {
  readonly judges: Judges;
  /** Tokens that can be drawn at all; undefined = every one. */
  readonly pruned: Uint32Array | undefined;
  /** Whether what the constraint says of the end decides this step. */
  isEnd(judge: Judge, place: Place): boolean;
  /**
   * @param row logits, shape [vocab]
   * @param first what the model draws from the pruned law at this place, where it is known
   */
  draw(
    row: Float32Array,
    place: Place,
    state: unknown,
    judge: Judge,
    first?: TokenId,
  ): Promise<Step>;
}

/** One question per token that is drawn, until the estimator is satisfied. */
export function judgedRows(options: SourceOptions): JudgedRows {
  const { constraint, vocab, ignoreStop, isProper, prune } = options;
  const judges = new Judges(constraint, vocab, ignoreStop);
  const pruned = prune ? pruningMask(vocab, ignoreStop) : undefined;
  const ends = isProper && !ignoreStop ? stopMask(vocab) : undefined;
  const isEnd = (judge: Judge, place: Place) =>
    ends !== undefined && place.isLast && judge.isComplete();
  return {
    judges,
    pruned,
    isEnd,
    async draw(row, place, state, judge, first) {
      const end = isEnd(judge, place) ? forcedEnd(row, place, ends!, state) : undefined;
      if (end) return end;
      if (pruned && !isPossible(row, pruned)) return dead;
      const isGreedy = place.sampling.temperature === 0;
      const law = isGreedy ? undefined : stepLaw(row, pruned, place);
      const estimator = law
        ? weighed(gumbelUrn(law, place.seed, place.position, first), options)
        : firstAllowed(rankedUrn(rankedLaw(row, place)), options.maxRejects);
      const kept = isProper && law ? law.kept() : 1;
      const { token, weight } = await decide(estimator, judge, options);
      if (token === undefined || weight === 0) {
        return ignoreStop && judge.isComplete() ? complete : dead;
      }
      return {
        kind: "token",
        token,
        logWeight: isProper && law ? Math.log(weight) + Math.log(kept) : 0,
        next: vocab.stopTokens.has(token) ? state : judge.after(token),
      };
    },
  };
}

/** For models that show rows and do not draw. */
export function judgedSource(options: SourceOptions): RowSource {
  const rows = judgedRows(options);
  return {
    start: () => rows.judges.start(),
    at: (state) => ({
      end: undefined,
      draw: (row, place) => rows.draw(row, place, state, rows.judges.at(state)),
    }),
    get checks() {
      return rows.judges.checks;
    },
  };
}

/** The recursive estimator asks at least twice, so a likely token is left to the geometric one. */
export function weighed(urn: Urn, options: EstimatorChoice): Estimator {
  const { estimator, isProper, maxAccepts, maxRejects } = options;
  if (!isProper) return firstAllowed(urn, maxRejects);
  if (estimator === "two-loop") return twoLoop(urn);
  const isGeometric = estimator === "geometric" ||
    (estimator === "auto" && (maxAccepts > 2 || urn.peak >= 2 / 3));
  return isGeometric ? geometric(urn, maxAccepts, maxRejects) : recursive(urn, maxRejects);
}

async function decide(
  estimator: Estimator,
  judge: Judge,
  { signal }: { readonly signal: AbortSignal },
): Promise<Drawn> {
  let step = estimator.next();
  for (let asked = 1; !step.done; asked++) {
    if (asked % checksPerTurn === 0) {
      await new Promise((resolve) => setTimeout(resolve, 0)); // there on every platform
      signal.throwIfAborted();
    }
    step = estimator.next(judge.allows(step.value));
  }
  return step.value;
}

/** Tokens from the most likely on, ties by lower id. */
function rankedUrn(logprobs: Float64Array): Pick<Urn, "draw" | "remove"> {
  return {
    draw() {
      let best = -1;
      let highest = -Infinity;
      for (let token = 0; token < logprobs.length; token++) {
        if (logprobs[token]! <= highest) continue;
        highest = logprobs[token]!;
        best = token;
      }
      return best < 0 ? undefined : best;
    },
    remove: (token: TokenId) => void (logprobs[token] = -Infinity),
  };
}

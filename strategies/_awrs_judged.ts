/** Tokens found by asking a constraint about one at a time. */
import { allowedMass, type TokenId } from "../runtime/mod.ts";
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

/** One question per token that is drawn, until the estimator is satisfied. */
export function judgedSource(options: SourceOptions): RowSource {
  const { constraint, vocab, ignoreStop, isProper, prune } = options;
  const judges = new Judges(constraint, vocab, ignoreStop);
  const pruned = prune ? pruningMask(vocab, ignoreStop) : undefined;
  const ends = isProper && !ignoreStop ? stopMask(vocab) : undefined;

  async function draw(row: Float32Array, place: Place, state: unknown): Promise<Step> {
    const judge = judges.at(state);
    if (ends && place.isLast && judge.isComplete()) {
      const step = forcedEnd(row, place, ends, state);
      if (step) return step;
    }
    if (pruned && !isPossible(row, pruned)) return dead;
    const { token, weight } = await decide(estimate(row, place, pruned, options), judge, options);
    if (token === undefined || weight === 0) {
      return ignoreStop && judge.isComplete() ? complete : dead;
    }
    const isWeighed = isProper && place.sampling.temperature > 0;
    const kept = isWeighed && pruned ? allowedMass(row, pruned, place) : 1;
    return {
      kind: "token",
      token,
      logWeight: isWeighed ? Math.log(weight) + Math.log(kept) : 0,
      next: vocab.stopTokens.has(token) ? state : judge.after(token),
    };
  }

  return {
    start: () => judges.start(),
    at: (state) => ({ end: undefined, draw: (row, place) => draw(row, place, state) }),
    get checks() {
      return judges.checks;
    },
  };
}

function estimate(
  row: Float32Array,
  place: Place,
  pruned: Uint32Array | undefined,
  options: EstimatorChoice,
): Estimator {
  if (place.sampling.temperature === 0) {
    return firstAllowed(rankedUrn(rankedLaw(row, place)), options.maxRejects);
  }
  return weighed(gumbelUrn(stepLaw(row, pruned, place), place.seed, place.position), options);
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

/**
 * Tokens of a model that tells only its most likely ones: draws among those, and now and then one draw of
 * its own from all the others, by a bias that excludes what is known.
 *
 * Exact at temperature 1 without filters, where the log-probabilities told are those of the raw law.
 */
import { createRng, EngineError, forkSeed, type Rng, type Session } from "../runtime/mod.ts";
import { type Estimator, firstAllowed } from "./_awrs_estimators.ts";
import { type Judge, Judges } from "./_awrs_judge.ts";
import { weighed } from "./_awrs_judged.ts";
import { RemoteUrn } from "./_awrs_remote_urn.ts";
import {
  complete,
  dead,
  type Place,
  type SourceOptions,
  type Step,
  type TokenSource,
} from "./_awrs_source.ts";

/** What a model has to be able to do where it shows no logits. */
export type RemoteSession = Session<"edit" | "topk" | "generate">;

/** Branches of a particle's seed. */
const urnBranch = 2 ** 26;
const revealBranch = 2 ** 27;
/** Excludes a token: weighs e^-100. */
const exclusion = -100;

/** @param visible how many tokens the model is asked to tell per step */
export function remoteSource(
  options: SourceOptions,
  visible: number,
): TokenSource<RemoteSession> {
  const { constraint, vocab, ignoreStop } = options;
  const judges = new Judges(constraint, vocab, ignoreStop);
  return {
    start: () => judges.start(),
    async draw(session, state, place) {
      const [top] = await session.topk(visible);
      const rng = rngAt(place);
      const urn = new RemoteUrn(top!, rng, place.sampling.temperature === 0);
      return {
        step: await decide(session, { urn, judge: judges.at(state), place, state }, options),
        logprob: (token, count) => ({
          token,
          logprob: Math.log(urn.prob(token)),
          top: top!.candidates.slice(0, count),
        }),
      };
    },
    get checks() {
      return judges.checks;
    },
  };
}

function rngAt({ seed, position }: Place): Rng {
  return createRng(forkSeed(forkSeed(seed, urnBranch), position));
}

/** One step: an estimator's questions, and revelations where it drew what is not known. */
async function decide(
  session: RemoteSession,
  { urn, judge, place, state }: {
    readonly urn: RemoteUrn;
    readonly judge: Judge;
    readonly place: Place;
    readonly state: unknown;
  },
  options: SourceOptions,
): Promise<Step> {
  const isGreedy = place.sampling.temperature === 0;
  const estimator: Estimator = isGreedy
    ? firstAllowed(urn, options.maxRejects)
    : weighed(urn, options);
  let question = estimator.next();
  while (!question.done) {
    if (question.value < 0) await reveal(session, urn, question.value, place);
    question = estimator.next(judge.allows(urn.real(question.value)));
  }
  const { token, weight } = question.value;
  if (token === undefined || weight === 0) {
    return options.ignoreStop && judge.isComplete() ? complete : dead;
  }
  const found = urn.real(token);
  return {
    kind: "token",
    token: found,
    logWeight: options.isProper && !isGreedy ? Math.log(weight) : 0,
    next: options.vocab.stopTokens.has(found) ? state : judge.after(found),
  };
}

/** Lets the model draw one of the tokens it did not tell. */
async function reveal(
  session: RemoteSession,
  urn: RemoteUrn,
  id: number,
  { sampling, seed }: Place,
): Promise<void> {
  using fork = session.fork();
  const asked = {
    sampling: {
      ...sampling,
      logitBias: urn.known().map((token) => [token, exclusion] as const),
      seed: forkSeed(seed, revealBranch - id),
    },
    maxTokens: 1,
    // Servers hide the token that stops them.
    ignoreStop: true,
  };
  for await (const { token, logprob } of fork.generate(asked)) {
    urn.resolve(id, token, Math.exp(logprob));
    return;
  }
  throw new EngineError("A model ended without showing the token that ended it");
}

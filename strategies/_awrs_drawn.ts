/**
 * Tokens that the model draws by itself, freely or under a mask, where it can: the same ones that rows
 * would give, and cheaper. It tells what the mask allows, the weight, so that no row has to be read.
 */
import { allowedMass, type Sampled, type Session, type Vocab } from "../runtime/mod.ts";
import {
  complete,
  dead,
  fromRows,
  type Place,
  type RowSource,
  type SourceOptions,
  type TokenSource,
  type Told,
} from "./_awrs_source.ts";
import { createMasker } from "./_constrain.ts";

/** What the model has to be able to do. */
export type DrawingSession = Session<"edit" | "logits" | "sample">;

/** Without a constraint. */
export function freelyDrawn(): TokenSource<DrawingSession> {
  return {
    start: () => undefined,
    async draw(session, _, place) {
      return told(await session.sample(asked(place)), 0, undefined);
    },
    checks: 0,
  };
}

/**
 * Under a constraint's mask.
 *
 * @param rows decides what a draw cannot: the forced end at the limit
 */
export function drawnUnderMask(
  { constraint, vocab, ignoreStop, isProper }: SourceOptions,
  rows: RowSource,
): TokenSource<DrawingSession> {
  const masker = createMasker(constraint, vocab, ignoreStop);
  const byRows = fromRows(rows);
  let checks = 0;
  return {
    start: () => masker.start(),
    async draw(session, state, place) {
      if (place.isLast) return await byRows.draw(session, state, place);
      checks++;
      const { bits, isEmpty, isComplete } = masker.mask(state);
      if (isEmpty) return ended(isComplete ? complete : dead);
      const isWeighed = isProper && place.sampling.temperature > 0;
      const drawn = await session.sample({ ...asked(place), mask: bits, mass: isWeighed })
        .catch(unlessImpossible);
      if (!drawn) return ended(dead);
      const mass = isWeighed ? drawn.mass ?? await massOf(session, bits, place) : 1;
      const next = isStop(vocab, drawn) ? state : masker.advance(state, drawn.token);
      return told(drawn, Math.log(mass), next);
    },
    get checks() {
      return checks + rows.checks;
    },
  };
}

/** What to ask a session for at a place. */
export function asked({ sampling, seed, logprobs }: Place) {
  return { sampling: { ...sampling, seed }, topLogprobs: logprobs ?? 0 };
}

/** From a row, of models that do not tell it with the draw. */
async function massOf(session: DrawingSession, mask: Uint32Array, place: Place): Promise<number> {
  const [row] = await session.logits();
  return allowedMass(row!, mask, place);
}

/** The model gives none of the allowed tokens any probability. */
export function unlessImpossible(error: unknown): undefined {
  if (error instanceof RangeError && error.name === "RangeError") return undefined;
  throw error;
}

function isStop(vocab: Vocab, { token }: Sampled): boolean {
  return vocab.stopTokens.has(token);
}

/** The outcome of a draw. */
export function told({ token, logprob, top }: Sampled, logWeight: number, next: unknown): Told {
  return {
    step: { kind: "token", token, logWeight, next },
    logprob: () => ({ token, logprob, top }),
  };
}

/** The outcome without one. */
export function ended(step: Told["step"]): Told {
  return {
    step,
    logprob: () => {
      throw new TypeError("Nothing was drawn, so no log-probability is known");
    },
  };
}

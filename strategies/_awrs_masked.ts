/** Tokens drawn freely, or under a constraint's own mask. */
import {
  complete,
  dead,
  forcedEnd,
  type Place,
  type RowSource,
  sampled,
  type SourceOptions,
  type Step,
  stopMask,
  underMask,
} from "./_awrs_source.ts";
import { createMasker } from "./_constrain.ts";

/** Without a constraint: what `sample` draws. */
export function freeSource(): RowSource {
  const draw = (row: Float32Array, place: Place): Step => {
    const token = sampled(row, place, undefined);
    return { kind: "token", token, logWeight: 0, next: undefined };
  };
  return { start: () => undefined, at: () => ({ end: undefined, draw }), checks: 0 };
}

/** The exact path: the mask's own draw, and the mass it lets through is the weight. */
export function maskedSource(
  { constraint, vocab, ignoreStop, isProper }: SourceOptions,
): RowSource {
  const masker = createMasker(constraint, vocab, ignoreStop);
  const forcesEnd = isProper && !ignoreStop;
  const ends = stopMask(vocab);
  let checks = 0;
  return {
    start: () => masker.start(),
    at(state) {
      checks++;
      const { bits, isEmpty, isComplete } = masker.mask(state);
      if (isEmpty) return { end: isComplete ? complete : dead, draw: () => dead };
      return {
        end: undefined,
        draw(row, place) {
          const step = (forcesEnd && isComplete ? forcedEnd(row, place, ends, state) : undefined) ??
            underMask(row, place, bits, isProper);
          if (step.kind !== "token" || vocab.stopTokens.has(step.token)) return step;
          return { ...step, next: masker.advance(state, step.token) };
        },
      };
    },
    get checks() {
      return checks;
    },
  };
}

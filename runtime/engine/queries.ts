/** From the arguments of a session's asks to what the step loop computes; arguments are checked here. */
import { ContextLengthError } from "../errors.ts";
import type { At, SampleOptions, TokenId, TokenTree } from "../model.ts";
import { hasPenalties } from "../sampling.ts";
import type { AskSpec } from "./ask.ts";
import type { ExecutorInfo } from "./executor.ts";

/** A session at the moment of an ask. */
export interface Asked {
  readonly tokens: readonly TokenId[];
  readonly promptLength: number;
  readonly info: ExecutorInfo;
}

/** @throws {RangeError} if the session is empty, or topLogprobs is not a count */
export function sampleSpec(asked: Asked, options: SampleOptions): AskSpec {
  const { sampling, mask, topLogprobs = 0, mass = false } = options;
  requireCount("topLogprobs", topLogprobs, 0);
  const { tokens, promptLength } = asked;
  const needsTokens = hasPenalties(sampling);
  return {
    ...lastPositions(asked, 1),
    query: {
      kind: "sample",
      sampling,
      topLogprobs,
      promptTokens: needsTokens ? tokens.slice(0, promptLength) : [],
      completionTokens: needsTokens ? tokens.slice(promptLength) : [],
      // Callers use one buffer for many masks.
      ...mask === undefined ? {} : { mask: mask.slice(), ...mass && { mass } },
    },
  };
}

/** @throws {RangeError} if there are fewer than `last` positions, or k is below 1 */
export function topkSpec(asked: Asked, k: number, at: At | undefined): AskSpec {
  requireCount("k", k, 1);
  return { ...lastPositions(asked, at?.last), query: { kind: "topk", k } };
}

/** @throws {RangeError} if there are fewer than `last` positions */
export function rowsSpec(asked: Asked, kind: "logits" | "entropy", at: At | undefined): AskSpec {
  return { ...lastPositions(asked, at?.last), query: { kind } };
}

/** @throws {RangeError} if there are fewer than `last` positions, or the layer does not exist */
export function hiddenSpec(asked: Asked, layer: number, at: At | undefined): AskSpec {
  const { layers } = asked.info;
  if (!Number.isInteger(layer) || layer < 0 || layer > layers) {
    throw new RangeError(`Cannot read layer ${layer}: the model has layers 0 to ${layers}`);
  }
  return { ...lastPositions(asked, at?.last), query: { kind: "hidden", layer } };
}

/** @throws {RangeError} if there are not `last` tokens with something before them */
export function scoreSpec(asked: Asked, { last }: At): AskSpec {
  const { from, end } = lastPositions(asked, last);
  if (from === 0) throw new RangeError("There is nothing before the first token to read from");
  return {
    from: from - 1,
    end: end - 1,
    query: { kind: "score", targets: asked.tokens.slice(from) },
  };
}

/**
 * @throws {RangeError} if a parent does not stand before its child, or a token is unknown
 * @throws {ContextLengthError} if a branch is longer than the context has room for
 */
export function treeSpec(asked: Asked, { tokens, parents }: TokenTree): AskSpec {
  const { info } = asked;
  const end = asked.tokens.length; // may be 0: a tree brings its own first token
  if (parents.length !== tokens.length) {
    throw new RangeError(`A tree of ${tokens.length} tokens has ${parents.length} parents`);
  }
  requireTokens(tokens, info.vocab);
  const depths = new Uint32Array(tokens.length);
  parents.forEach((parent, i) => {
    if (!Number.isInteger(parent) || parent < -1 || parent >= i) {
      throw new RangeError(`Node ${i} of a tree cannot have parent ${parent}`);
    }
    depths[i] = parent < 0 ? 0 : depths[parent]! + 1;
    if (end + depths[i]! >= info.contextLength) {
      throw new ContextLengthError(end + depths[i]! + 1, 0, info.contextLength);
    }
  });
  const query = { kind: "tree", tokens: Uint32Array.from(tokens), parents: [...parents], depths };
  return { from: end, end, query: { ...query, kind: "tree" } };
}

/** @throws {RangeError} naming the first token outside the vocabulary */
export function requireTokens(tokens: readonly TokenId[], vocab: number): void {
  for (const token of tokens) {
    if (!Number.isInteger(token) || token < 0 || token >= vocab) {
      throw new RangeError(`Token ${token} is outside the vocabulary of ${vocab}`);
    }
  }
}

function lastPositions({ tokens }: Asked, last = 1): { from: number; end: number } {
  const { length } = tokens;
  if (length === 0) throw new RangeError("There is nothing before the first token to read from");
  if (!Number.isInteger(last) || last < 1 || last > length) {
    throw new RangeError(`Cannot read the last ${last} of ${length} positions`);
  }
  return { from: length - last, end: length };
}

function requireCount(name: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) {
    throw new RangeError(`${name} must be an integer of at least ${least}, got ${value}`);
  }
}

/** Deterministic pseudo-random logits from the token sequence: for laws. */
import type { TokenId, Vocab } from "../../runtime/mod.ts";
import { type FakeModel, fakeModel, type FakeModelOptions } from "./_model.ts";
import { fakeVocab } from "./vocab.ts";

/** How to make a hash model. */
export interface HashModelOptions extends FakeModelOptions {
  /** @default letters a to p, space, and the chat control tokens */
  readonly vocab?: Vocab;
  /** Another seed is another model. @default 1 */
  readonly seed?: number;
  /** Logits lie in [-spread, spread]. @default 3 */
  readonly spread?: number;
  /** Added to the logits of stop tokens; -Infinity never stops. @default 0 */
  readonly stopBias?: number;
  /** How many trailing tokens matter. @default all */
  readonly window?: number;
}

/** Letters enough to read what a test produced. */
export function letterVocab(): Vocab {
  return fakeVocab({ pieces: [..."abcdefghijklmnop "] });
}

/**
 * A model whose logits are hashes of the whole sequence. Control tokens other than stop tokens are
 * never drawn.
 */
export function hashModel(options: HashModelOptions = {}): FakeModel {
  const {
    vocab = letterVocab(),
    seed = 1,
    spread = 3,
    stopBias = 0,
    window = Infinity,
    ...rest
  } = options;
  return fakeModel({
    vocab,
    logits(tokens) {
      const state = hashOf(tokens.slice(Math.max(0, tokens.length - window)), seed);
      return Float32Array.from({ length: vocab.size }, (_, token) => {
        const logit = (mix(state ^ Math.imul(token + 1, 0x9e3779b1)) / 2147483648 - 1) * spread;
        if (vocab.stopTokens.has(token)) return logit + stopBias;
        return vocab.isSpecial(token) ? -Infinity : logit;
      });
    },
    hidden(tokens, layer) {
      const state = hashOf(tokens, seed + layer + 1);
      return Float32Array.from({ length: 4 }, (_, i) => mix(state + i) / 2147483648 - 1);
    },
  }, { id: "hash", ...rest });
}

function hashOf(tokens: readonly TokenId[], seed: number): number {
  let state = mix(seed);
  for (const token of tokens) state = mix(state ^ (token + 1));
  return state;
}

/** Finaliser of MurmurHash3: every input bit reaches every output bit. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

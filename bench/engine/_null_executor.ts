/** An executor that computes nothing, to see what the engine itself costs. */
import type { Answer, Executor, Want } from "../../runtime/engine/executor.ts";

const VOCAB = 64;
const row = new Float32Array(VOCAB);

/** Answers at once, or after `step` has passed. Tokens go round the vocabulary. */
export function nullExecutor(
  options: { readonly pages: number; readonly step?: () => Promise<void> },
): Executor {
  const kv = { layers: 1, kvHeads: 1, headDim: 1, pageSize: 16 };
  return {
    info: {
      backend: "null",
      vocab: VOCAB,
      contextLength: 1 << 20,
      layers: 1,
      hidden: 1,
      kv,
      pages: options.pages,
      pageBytes: 128,
    },
    async execute({ rows }) {
      await options.step?.();
      return {
        answers: rows.map(({ wants, tokens }) => wants.map((want) => answer(want, tokens))),
      };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function answer(want: Want, tokens: Uint32Array): Answer {
  const token = (tokens.at(-1)! * 5 + 1) % VOCAB;
  switch (want.kind) {
    case "sample":
      return { kind: "sample", token, logprob: -1, top: [], entropy: 1 };
    case "topk": {
      const candidates = Array.from({ length: want.k }, (_, i) => ({
        token: (token + i) % VOCAB,
        logprob: -1 - i,
      }));
      return {
        kind: "topk",
        rows: Array.from({ length: want.last }, () => ({ candidates, rest: 0 })),
      };
    }
    case "logits":
    case "hidden":
      return { kind: want.kind, rows: Array.from({ length: want.last }, () => row.slice()) };
    case "entropy":
      return { kind: "entropy", values: new Float32Array(want.last) };
    case "score":
      return { kind: "score", values: new Float32Array(want.targets.length) };
    case "signal":
      return { kind: "signal", values: new Float32Array(want.slots.length) };
  }
}

/** A vocabulary without text or stop tokens. */
export const nullVocab = {
  size: VOCAB,
  fingerprint: "null",
  bos: undefined,
  stopTokens: new Set<number>(),
  isSpecial: () => false,
  bytes: () => new Uint8Array(),
  piece: () => "",
  encode: () => [],
  decode: () => "",
  chat: undefined,
};

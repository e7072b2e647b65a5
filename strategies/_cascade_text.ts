/** Answers of a model whose tokens are not the response's own, as text. */
import type { Sampled, TextCandidate, TextLogprob, Vocab } from "../runtime/mod.ts";
import type { Chunk } from "./strategy.ts";

/** Turns one choice's draws into chunks of text. Characters are kept whole. */
export function textWriter(
  vocab: Vocab,
  { choice, ignoreStop, logprobs }: {
    readonly choice: number;
    readonly ignoreStop: boolean;
    readonly logprobs: number | undefined;
  },
): { push(draws: readonly Sampled[]): Chunk; end(): Chunk } {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const chunk = (text: string, count: number, told: readonly TextLogprob[]): Chunk => ({
    choice,
    text,
    count,
    ...logprobs === undefined ? {} : { textLogprobs: told },
  });
  return {
    push(draws) {
      const shown = draws.filter(({ token }) => ignoreStop || !vocab.stopTokens.has(token));
      const text = shown.map(({ token }) => decoder.decode(vocab.bytes(token), { stream: true }));
      return chunk(text.join(""), draws.length, shown.map((sampled) => told(sampled, vocab)));
    },
    end: () => chunk(decoder.decode(), 0, []),
  };
}

function told({ token, logprob, top }: Sampled, vocab: Vocab): TextLogprob {
  return {
    ...candidate(token, logprob, vocab),
    top: top.map((one) => candidate(one.token, one.logprob, vocab)),
  };
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function candidate(token: number, logprob: number, vocab: Vocab): TextCandidate {
  const bytes = vocab.bytes(token);
  const text = vocab.isSpecial(token) ? vocab.piece(token) : decoder.decode(bytes);
  return { token: text, bytes: [...bytes], logprob };
}

/** What an upstream tells of tokens, as ids of the model's own vocabulary. */
import type { Candidate, Sampled, TokenId, Vocab } from "../model.ts";
import type { UpstreamEngine } from "./engine.ts";
import { failure } from "./failure.ts";
import type { WireCandidate, WireLogprob, WirePiece } from "./wire.ts";

/** Token sessions are opened only where there is one. */
export function vocabOf({ id, vocab }: UpstreamEngine): Vocab {
  if (!vocab) throw new TypeError(`Upstream ${id} has no vocabulary`);
  return vocab;
}

/** A piece's tokens, by id. @throws {UpstreamError} if they are not told, or make no sense */
export function* drawnTokens(
  { text, tokens, logprobs, finish }: WirePiece,
  engine: UpstreamEngine,
  topLogprobs: number,
): Generator<Sampled, void, void> {
  const vocab = vocabOf(engine);
  const ids = tokens ?? logprobs?.map((entry) => idOf(entry, vocab));
  if (!ids) {
    if (text === "") return;
    throw failure(engine.id, "invalid", "it does not tell token ids");
  }
  // Some show the token that stopped them without its log-probability.
  const isShort = finish === "stop" && ids.length === (logprobs?.length ?? 0) + 1;
  if (logprobs && logprobs.length !== ids.length && !isShort) {
    throw failure(engine.id, "invalid", "tokens and log-probabilities do not go together");
  }
  for (const [i, token] of ids.entries()) {
    if (token === undefined || token >= vocab.size) {
      throw failure(engine.id, "invalid", "it drew a token outside the vocabulary");
    }
    const told = logprobs?.[i];
    yield {
      token,
      logprob: told?.logprob ?? NaN,
      top: told && topLogprobs > 0 ? candidatesOf(told, engine, topLogprobs) : [],
    };
  }
}

/** The k best of a position whose ids are known, best first; the others count as unseen. */
export function candidatesOf(
  { top, ...drawn }: WireLogprob,
  engine: UpstreamEngine,
  k: number,
): Candidate[] {
  const vocab = vocabOf(engine);
  const best = new Map<TokenId, number>();
  for (const candidate of [drawn, ...top]) {
    const token = idOf(candidate, vocab);
    if (token !== undefined && token < vocab.size) best.set(token, candidate.logprob);
  }
  return [...best].map(([token, logprob]) => ({ token, logprob }))
    .sort((a, b) => b.logprob - a.logprob || a.token - b.token)
    .slice(0, k);
}

function idOf({ id, token, bytes }: WireCandidate, vocab: Vocab): TokenId | undefined {
  return id ?? idsByText(vocab).get(bytes ? textKey(Uint8Array.from(bytes)) : token);
}

const known = new WeakMap<Vocab, ReadonlyMap<string, TokenId>>();

/** Token ids by their text, where only one token has it. */
function idsByText(vocab: Vocab): ReadonlyMap<string, TokenId> {
  let ids = known.get(vocab);
  if (!ids) known.set(vocab, ids = indexOf(vocab));
  return ids;
}

function indexOf(vocab: Vocab): ReadonlyMap<string, TokenId> {
  const ids = new Map<string, TokenId>();
  const shared = new Set<string>();
  for (let token = 0; token < vocab.size; token++) {
    const text = vocab.isSpecial(token) ? vocab.piece(token) : textKey(vocab.bytes(token));
    if (text === "") continue;
    if (ids.has(text)) shared.add(text);
    else ids.set(text, token);
  }
  for (const text of shared) ids.delete(text);
  return ids;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function textKey(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

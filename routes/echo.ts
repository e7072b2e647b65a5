/** The prompt in front of a completion, with its log-probabilities where they were asked for. */
import {
  type CatalogEntry,
  createMeter,
  type RequestScope,
  requireCapabilities,
  type TokenId,
  type Vocab,
} from "../runtime/mod.ts";
import type { TextCandidate } from "../strategies/mod.ts";
import type { RequestWork } from "./admission.ts";
import type { Generation } from "./generation.ts";
import type { CompletionToken } from "./logprobs.ts";
import { requireVocab } from "./resolve.ts";
import type { RequestState } from "./state.ts";

/** A prompt as text. */
export interface Echo {
  readonly text: string;
  /** Empty unless log-probabilities were asked for. */
  readonly tokens: readonly CompletionToken[];
}

/**
 * Echoes of token prompts. Control tokens show under their names, but for a leading
 * begin-of-sequence token, which texts do not write. The first token of a prompt has no
 * log-probability: nothing stands before it.
 *
 * @throws {CapabilityError} if the model cannot score tokens
 */
export function echoPrompts(
  { selection: { entry, kv }, logprobs, cacheSalt, prompts }: Generation,
  state: RequestState,
  work: RequestWork,
): Promise<Echo[]> {
  const vocab = requireVocab(entry, "echo");
  const scope: RequestScope = {
    id: `${state.id}-echo`,
    signal: work.signal,
    meter: createMeter(),
    cacheSalt,
    kv,
  };
  return Promise.all(prompts.map(async (prompt) => {
    const tokens = prompt as readonly TokenId[]; // completions only have token prompts
    const shown = tokens[0] === vocab.bos ? tokens.slice(1) : tokens;
    return {
      text: vocab.decode(shown, { special: true }),
      tokens: logprobs === undefined ? [] : await scored(entry, tokens, logprobs, scope),
    };
  }));
}

async function scored(
  { model }: CatalogEntry,
  tokens: readonly TokenId[],
  top: number,
  scope: RequestScope,
): Promise<CompletionToken[]> {
  const vocab = model.vocab!; // checked above
  const last = tokens.length - 1;
  const head: CompletionToken = {
    ...(tokens[0] === vocab.bos
      ? { token: "", bytes: [], logprob: 0 }
      : shown(vocab, tokens[0]!, 0)),
    logprob: null,
    top: [],
  };
  if (last === 0) return [head];
  const use = { role: "echo" };
  using full = requireCapabilities(model, ["score"], use).session(tokens, { scope });
  using before = requireCapabilities(model, ["topk"], use).session(tokens.slice(0, -1), { scope });
  const [scores, rows] = await Promise.all([
    full.score({ last }),
    top === 0 ? [] : before.topk(top, { last }),
  ]);
  return [
    head,
    ...tokens.slice(1).map((token, i) => ({
      ...shown(vocab, token, scores[i]!),
      top: (rows[i]?.candidates ?? []).map((one) => shown(vocab, one.token, one.logprob)),
    })),
  ];
}

function shown(vocab: Vocab, token: TokenId, logprob: number): TextCandidate {
  const bytes = vocab.isSpecial(token)
    ? new TextEncoder().encode(vocab.piece(token))
    : vocab.bytes(token);
  return { token: new TextDecoder().decode(bytes), bytes: [...bytes], logprob };
}

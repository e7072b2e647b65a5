/** Turns one choice's tokens into text events: whole characters, no stop string, no token too many. */
import type {
  Candidate,
  TextCandidate,
  TextLogprob,
  TokenId,
  TokenLogprob,
  Vocab,
} from "../runtime/mod.ts";
import type { RunEvent } from "./_run_types.ts";
import {
  advanceStops,
  completedStop,
  heldBack,
  startStops,
  type StopState,
} from "./_stop_strings.ts";
import type { StopRules } from "./_stop_check.ts";
import type { Chunk } from "./strategy.ts";
import { bytesOf, incompleteSuffix, textOf } from "./_utf8.ts";

/** What all choices of a request have in common. */
export interface OutputRules extends StopRules {
  readonly maxTokens: number;
  /** Whether events carry log-probabilities. */
  readonly logprobs: boolean;
}

/** A token, or a piece of text without one, whose bytes have not left yet. */
interface Held {
  readonly token: TokenId | undefined;
  readonly bytes: Uint8Array;
  readonly logprob: TokenLogprob | undefined;
  /** The same of tokens without an id; several where their bytes are not quite the text's. */
  readonly textLogprobs?: readonly TextLogprob[];
}

/**
 * Output of one choice. Tokens leave whole and in order, as soon as their bytes end at a character
 * boundary and cannot belong to a stop string; so the bytes of an event's log-probabilities always
 * are its text's.
 */
export class ChoiceOutput {
  readonly #choice: number;
  readonly #rules: OutputRules;
  #held: Held[] = [];
  #bytes: number[] = [];
  #stops: StopState;
  #count = 0;
  #done = false;

  constructor(choice: number, rules: OutputRules) {
    this.#choice = choice;
    this.#rules = rules;
    this.#stops = startStops(rules.strings);
  }

  /** Tokens that reached this choice, the ones that ended it included. */
  get count(): number {
    return this.#count;
  }

  get done(): boolean {
    return this.#done;
  }

  /** Events for one chunk; none once the choice is done. */
  *push(chunk: Chunk): Generator<RunEvent, void, void> {
    if ("text" in chunk) {
      if (this.#done) return;
      this.#count += chunk.count;
      const { reasoning } = chunk;
      if (reasoning !== undefined) {
        yield { type: "text", choice: this.#choice, text: "", tokens: [], reasoning };
      }
      for (const piece of heldText(chunk)) {
        if (!this.#done) yield* this.#take(piece);
      }
    } else {
      if (this.#rules.logprobs && chunk.logprobs?.length !== chunk.tokens.length) {
        throw new TypeError("A strategy gave tokens without the log-probabilities asked for");
      }
      for (let i = 0; i < chunk.tokens.length && !this.#done; i++) {
        yield* this.#takeToken(chunk.tokens[i]!, chunk.logprobs?.[i]);
      }
    }
    if (!this.#done) yield* this.#release(this.#releasable());
  }

  /** Ends the choice where it stands. */
  *end(reason: "stop" | "length", stoppedBy?: string | TokenId): Generator<RunEvent, void, void> {
    if (this.#done) return;
    this.#done = true;
    yield* this.#release(this.#held.length);
    yield {
      type: "finish",
      choice: this.#choice,
      reason,
      ...stoppedBy === undefined ? {} : { stoppedBy },
    };
  }

  *#takeToken(token: TokenId, logprob: TokenLogprob | undefined): Generator<RunEvent, void, void> {
    const { vocab, tokens, maxTokens } = this.#rules;
    this.#count++;
    if (tokens.has(token)) {
      yield* this.end("stop", token);
      return;
    }
    yield* this.#take({ token, bytes: vocab!.bytes(token), logprob });
    if (this.#count >= maxTokens) yield* this.end("length");
  }

  *#take(piece: Held): Generator<RunEvent, void, void> {
    const { strings } = this.#rules;
    this.#held.push(piece);
    for (const byte of piece.bytes) {
      this.#bytes.push(byte);
      this.#stops = advanceStops(strings, this.#stops, byte);
      const stop = completedStop(strings, this.#stops);
      if (!stop) continue;
      this.#cut(this.#bytes.length - stop.bytes.length);
      yield* this.end("stop", stop.text);
      return;
    }
  }

  /** Drops everything from byte `end` on; a token cut in the middle keeps its first bytes. */
  #cut(end: number): void {
    const kept: Held[] = [];
    let start = 0;
    for (const piece of this.#held) {
      const length = piece.bytes.length;
      if (start + length <= end) kept.push(piece);
      else if (start < end) kept.push({ ...piece, bytes: piece.bytes.slice(0, end - start) });
      start += length;
    }
    this.#held = kept;
    this.#bytes.length = end;
  }

  /** How many held pieces may leave. */
  #releasable(): number {
    let end = this.#bytes.length;
    const safe = end - heldBack(this.#stops);
    let pieces = this.#held.length;
    while (pieces > 0 && (end > safe || incompleteSuffix(this.#bytes, end) > 0)) {
      end -= this.#held[--pieces]!.bytes.length;
    }
    return pieces;
  }

  *#release(pieces: number): Generator<RunEvent, void, void> {
    if (pieces === 0) return;
    const leaving = this.#held.splice(0, pieces);
    const length = leaving.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const text = textOf(this.#bytes.splice(0, length));
    const tokens = leaving.flatMap(({ token }) => token === undefined ? [] : [token]);
    yield {
      type: "text",
      choice: this.#choice,
      text,
      tokens,
      ...this.#rules.logprobs
        ? { logprobs: leaving.flatMap((piece) => logprobsOf(piece, this.#rules.vocab)) }
        : {},
    };
  }
}

/** Token by token where the tokens' bytes are the text's; otherwise in one piece. */
function heldText({ text, textLogprobs }: Extract<Chunk, { readonly text: string }>): Held[] {
  const bytes = bytesOf(text);
  const shared = { token: undefined, logprob: undefined };
  if (!textLogprobs) return [{ ...shared, bytes }];
  const told = textLogprobs.flatMap((entry) => entry.bytes);
  if (told.length !== bytes.length || !bytes.every((byte, i) => byte === told[i])) {
    return [{ ...shared, bytes, textLogprobs }];
  }
  return textLogprobs.map((entry) => ({
    ...shared,
    bytes: Uint8Array.from(entry.bytes),
    textLogprobs: [entry],
  }));
}

function logprobsOf(piece: Held, vocab: Vocab | undefined): readonly TextLogprob[] {
  if (piece.textLogprobs) return piece.textLogprobs;
  return piece.logprob ? [textLogprob(piece.bytes, piece.logprob, vocab!)] : [];
}

function textLogprob(
  bytes: Uint8Array,
  { logprob: value, top }: TokenLogprob,
  vocab: Vocab,
): TextLogprob {
  return {
    token: textOf(bytes),
    bytes: [...bytes],
    logprob: value,
    top: top.map((candidate) => textCandidate(candidate, vocab)),
  };
}

/** Control tokens have no text, so they show under the name the vocabulary gives them. */
function textCandidate({ token, logprob }: Candidate, vocab: Vocab): TextCandidate {
  const bytes = vocab.bytes(token);
  const text = vocab.isSpecial(token) ? vocab.piece(token) : textOf(bytes);
  return { token: text, bytes: [...bytes], logprob };
}

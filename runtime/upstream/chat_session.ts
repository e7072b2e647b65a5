/** A session at an upstream's chat route: a prompt that can be answered. */
import { ClosedError } from "../errors.ts";
import type {
  ChatOptions,
  GenerateOptions,
  Message,
  RequestScope,
  Sampled,
  SessionCore,
  TextLogprob,
} from "../model.ts";
import type { UpstreamEngine } from "./engine.ts";
import { failure } from "./failure.ts";
import type { Member } from "./group.ts";
import type { WireCandidate, WireLogprob, WirePiece } from "./wire.ts";

const utf8 = new TextEncoder();

/** A chat that can be forked and answered once; there is no way to continue an answer. */
export class ChatSession implements SessionCore {
  readonly #engine: UpstreamEngine;
  readonly #prompt: readonly Message[];
  readonly #chat: ChatOptions;
  readonly #scope: RequestScope;
  readonly #members = new Set<Member>();
  #isAnswered = false;
  #isClosed = false;
  ended: "stop" | "length" | undefined;

  constructor(
    engine: UpstreamEngine,
    prompt: readonly Message[],
    chat: ChatOptions,
    scope: RequestScope,
  ) {
    this.#engine = engine;
    this.#prompt = prompt;
    this.#chat = chat;
    this.#scope = scope;
  }

  fork(): this {
    requireOpen(this.#isClosed);
    const copy = new ChatSession(this.#engine, this.#prompt, this.#chat, this.#scope);
    copy.#isAnswered = this.#isAnswered;
    return copy as this; // the class is final, so `this` is ChatSession
  }

  async *generate(options: GenerateOptions): AsyncGenerator<Sampled, void, void> {
    requireOpen(this.#isClosed);
    if (this.#isAnswered) {
      throw new ClosedError("A chat at an upstream can be answered once; fork it before");
    }
    this.#isAnswered = true;
    this.ended = undefined;
    const { meter } = this.#scope;
    const member = await this.#engine.generate({
      prompt: this.#prompt,
      chat: this.#chat,
      options,
      scope: this.#scope,
    });
    this.#members.add(member);
    try {
      requireOpen(this.#isClosed);
      for (let piece = await member.next(); piece; piece = await member.next()) {
        this.ended = piece.finish ?? this.ended;
        if (options.logprobs === true && piece.text !== "" && !piece.logprobs) {
          throw failure(this.#engine.id, "invalid", "it told no log-probabilities");
        }
        const sampled = textPiece(piece, options);
        if (sampled.text === "" && sampled.count === 0) continue;
        meter.drawnTokens += sampled.count ?? 1;
        yield sampled;
      }
    } finally {
      member.close();
      this.#members.delete(member);
    }
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const member of this.#members) member.close();
  }
}

/** @throws {ClosedError} */
export function requireOpen(isClosed: boolean): void {
  if (isClosed) throw new ClosedError("The session was closed");
}

function textPiece(
  { text, reasoning, count = text === "" && reasoning === undefined ? 0 : 1, logprobs }: WirePiece,
  { logprobs: isRead = true }: GenerateOptions,
) {
  const told = isRead ? logprobs : undefined;
  return {
    token: -1,
    logprob: told?.length === 1 ? told[0]!.logprob : NaN,
    top: [],
    text,
    count: told?.length ?? count,
    ...reasoning === undefined ? {} : { reasoning },
    ...told ? { textLogprobs: told.map(textLogprob) } : {},
  } satisfies Sampled;
}

function textLogprob({ top, ...candidate }: WireLogprob): TextLogprob {
  return { ...textCandidate(candidate), top: top.map(textCandidate) };
}

function textCandidate({ token, bytes, logprob }: WireCandidate) {
  return { token, bytes: bytes ?? [...utf8.encode(token)], logprob };
}

/**
 * One completion in which the small model speaks alone until its law tells it to defer; only then the
 * large model catches up on all tokens it has not seen, in one pass, and draws one.
 *
 * Of the large model nothing is needed but continuing tokens, so it may be far away.
 */
import {
  type Constraint,
  logNormalizer,
  type SamplingParams,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
} from "../runtime/mod.ts";
import type { DrawShape } from "./_combine.ts";
import { deadEnd, type Masker } from "./_constrain.ts";
import type { StopCheck } from "./strategy.ts";

/** Draws the next token of a session without knowing how; see {@link largeVoice}. */
export interface LargeVoice extends Disposable {
  /**
   * @param unseen tokens since the last draw; what is drawn is not among the next ones
   * @returns undefined if the model ended without a token to show for it
   */
  draw(
    unseen: readonly TokenId[],
    mask: Uint32Array | undefined,
  ): Promise<TokenLogprob | undefined>;
}

/** Everything one completion depends on. */
export interface GatedOptions {
  readonly small: Session<"edit" | "logits">;
  /** Undefined for the rule that never asks it. */
  readonly large: LargeVoice | undefined;
  /** Whether the small model speaks. */
  readonly speaks: (row: Float32Array, shape: DrawShape) => boolean;
  /** Draws a token where it does. */
  readonly draw: (row: Float32Array, shape: DrawShape, position: number) => TokenId;
  readonly sampling: SamplingParams;
  readonly maxTokens: number;
  readonly logprobs: number | undefined;
  readonly stops: StopCheck;
  readonly constraint: Constraint | undefined;
  readonly masker: Masker | undefined;
}

/** See file comment. */
export class Gated implements Disposable {
  readonly #options: GatedOptions;
  readonly #prompt: readonly TokenId[];
  readonly #completion: TokenId[] = [];
  #state: unknown;
  #seen = 0;
  #reason: "stop" | "length" | undefined;
  /** Tokens the large model drew: passes of it. */
  deferrals = 0;
  /** Passes of the small model. */
  steps = 0;

  constructor(options: GatedOptions) {
    this.#options = options;
    this.#prompt = [...options.small.tokens];
    this.#state = options.masker?.start();
  }

  /** Why the completion ended; undefined while it goes on. */
  get reason(): "stop" | "length" | undefined {
    return this.#reason;
  }

  /**
   * The next token, none if the constraint is complete.
   *
   * @throws {ConstraintError} if the constraint allows neither a token nor the end
   */
  async advance(): Promise<readonly TokenLogprob[]> {
    const { small, masker, speaks, constraint, sampling } = this.#options;
    const mask = masker?.mask(this.#state);
    if (mask?.isEmpty) {
      if (!mask.isComplete) throw deadEnd(constraint!);
      this.#reason = "stop";
      return [];
    }
    const [row] = await small.logits();
    this.steps++;
    const shape = {
      sampling,
      mask: mask?.bits,
      promptTokens: this.#prompt,
      completionTokens: this.#completion,
    };
    const drawn = speaks(row!, shape) ? this.#own(row!, shape) : await this.#defer(mask?.bits);
    if (!drawn) {
      this.#reason = "stop";
      return [];
    }
    this.#keep(drawn.token);
    return [drawn];
  }

  #own(row: Float32Array, shape: DrawShape): TokenLogprob {
    const { logprobs, draw } = this.#options;
    const token = draw(row, shape, this.#prompt.length + this.#completion.length);
    if (logprobs === undefined) return { token, logprob: 0, top: [] };
    const normalizer = logNormalizer(row);
    const top = topCandidates(row, logprobs, normalizer);
    return { token, logprob: row[token]! - normalizer, top };
  }

  async #defer(mask: Uint32Array | undefined): Promise<TokenLogprob | undefined> {
    const unseen = this.#completion.slice(this.#seen);
    this.#seen = this.#completion.length + 1;
    this.deferrals++;
    return await this.#options.large!.draw(unseen, mask);
  }

  #keep(token: TokenId): void {
    const { small, stops, masker, maxTokens } = this.#options;
    this.#completion.push(token);
    small.append([token]);
    if (stops.push(token)) this.#reason = "stop";
    else if (this.#completion.length === maxTokens) this.#reason = "length";
    else this.#state = masker?.advance(this.#state, token);
  }

  [Symbol.dispose](): void {
    this.#options.small[Symbol.dispose]();
    this.#options.large?.[Symbol.dispose]();
  }
}

/** What a voice needs of the request. */
interface VoiceOptions {
  readonly sampling: SamplingParams;
  readonly logprobs: number | undefined;
  readonly ignoreStop: boolean;
}

/** Draws by `generate`, which every continuing model has. */
export function generatingVoice(
  session: Session<"edit" | "generate">,
  { sampling, logprobs, ignoreStop }: VoiceOptions,
): LargeVoice {
  return {
    async draw(unseen) {
      session.append(unseen);
      const asked = { sampling, maxTokens: 1, topLogprobs: logprobs ?? 0, ignoreStop };
      for await (const { token, logprob, top } of session.generate(asked)) {
        return { token, logprob, top };
      }
      return undefined;
    },
    [Symbol.dispose]: () => session[Symbol.dispose](),
  };
}

/** Draws one token under a mask. */
export function samplingVoice(
  session: Session<"edit" | "sample">,
  { sampling, logprobs }: VoiceOptions,
): LargeVoice {
  return {
    async draw(unseen, mask) {
      session.append(unseen);
      const asked = { sampling, ...mask ? { mask } : {}, topLogprobs: logprobs ?? 0 };
      const { token, logprob, top } = await session.sample(asked);
      session.append([token]);
      return { token, logprob, top };
    },
    [Symbol.dispose]: () => session[Symbol.dispose](),
  };
}

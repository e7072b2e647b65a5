/** The tokens of an ensemble's completion: those that are decided, and proposals that are not yet. */
import type { Constraint, SamplingParams, TokenId } from "../runtime/mod.ts";
import type { DrawShape } from "./_combine.ts";
import { deadEnd, type Masker, type TokenMask } from "./_constrain.ts";
import type { StopCheck } from "./strategy.ts";

/** What a completion keeps to. */
export interface SequenceOptions {
  readonly sampling: SamplingParams;
  readonly maxTokens: number;
  readonly stops: StopCheck;
  readonly constraint: Constraint | undefined;
  readonly masker: Masker | undefined;
}

/** Where a sequence stands: what its stop check and constraint have seen. */
interface Place {
  readonly stops: StopCheck;
  readonly state: unknown;
  readonly ended: boolean;
}

/** A proposal that is not decided yet. */
export interface Pending {
  readonly token: TokenId;
  readonly owner: number;
  /** The owner's law it was drawn with. */
  readonly law: Float64Array;
  /** Whether the law may be another than the owner's. */
  readonly isOpen: boolean;
  readonly mask: TokenMask | undefined;
  readonly after: Place;
}

/** See file comment. */
export class EnsembleSequence {
  readonly prompt: readonly TokenId[];
  readonly #options: SequenceOptions;
  readonly #completion: TokenId[] = [];
  #place: Place;
  #pending: Pending[] = [];
  #reason: "stop" | "length" | undefined;

  constructor(prompt: readonly TokenId[], options: SequenceOptions) {
    this.prompt = prompt;
    this.#options = options;
    this.#place = { stops: options.stops, state: options.masker?.start(), ended: false };
  }

  /** Why the completion ended; undefined while it goes on. */
  get reason(): "stop" | "length" | undefined {
    return this.#reason;
  }

  /** Decided tokens, the prompt's included. */
  get length(): number {
    return this.prompt.length + this.#completion.length;
  }

  /** How many proposals are not decided. */
  get waiting(): number {
    return this.#pending.length;
  }

  /** The completion with all proposals. */
  get proposed(): readonly TokenId[] {
    return [...this.#completion, ...this.#pending.map(({ token }) => token)];
  }

  /** What the constraint allows after the decided tokens. @throws {ConstraintError} */
  get decidedMask(): TokenMask | undefined {
    return this.#mask(this.#place);
  }

  /** What it allows after the proposals. @throws {ConstraintError} */
  get nextMask(): TokenMask | undefined {
    return this.#mask(this.#lastPlace);
  }

  /** How the token after the decided ones is drawn. */
  decidedShape(mask: TokenMask | undefined): DrawShape {
    return this.#shape(mask, this.#completion);
  }

  /** How the next proposal is drawn. */
  nextShape(): DrawShape {
    return this.#shape(this.nextMask, this.proposed);
  }

  /** Whether a token may follow the proposals. */
  mayPropose(): boolean {
    const { maxTokens } = this.#options;
    if (this.#completion.length + this.#pending.length >= maxTokens) return false;
    return !this.#lastPlace.ended && !this.nextMask?.isEmpty;
  }

  /** A token drawn with {@link nextShape}. */
  propose(drawn: Omit<Pending, "mask" | "after">): void {
    const place = this.#lastPlace;
    const mask = this.#mask(place);
    this.#pending.push({ ...drawn, mask, after: this.#after(place, drawn.token) });
  }

  /** Takes the first proposal out, to be decided and settled. */
  shift(): Pending | undefined {
    return this.#pending.shift();
  }

  /** No proposal counts any more. */
  takeBack(): void {
    this.#pending = [];
  }

  /** A decided token: the proposal taken out before, or another. */
  settle(token: TokenId, proposal?: Pending): void {
    const place = proposal?.after ?? this.#after(this.#place, token);
    this.#completion.push(token);
    if (place.ended) this.#reason = "stop";
    else if (this.#completion.length === this.#options.maxTokens) this.#reason = "length";
    this.#place = place;
  }

  /** Ends where no token is allowed. @throws {ConstraintError} if it may not end there */
  finish({ isComplete }: TokenMask): void {
    if (!isComplete) throw deadEnd(this.#options.constraint!);
    this.#reason = "stop";
  }

  get #lastPlace(): Place {
    return this.#pending.at(-1)?.after ?? this.#place;
  }

  #after({ stops, state }: Place, token: TokenId): Place {
    const next = stops.fork();
    const ended = next.push(token);
    const { masker } = this.#options;
    return { stops: next, ended, state: ended ? state : masker?.advance(state, token) };
  }

  #mask({ state }: Place): TokenMask | undefined {
    return this.#options.masker?.mask(state);
  }

  #shape(mask: TokenMask | undefined, completionTokens: readonly TokenId[]): DrawShape {
    const { sampling } = this.#options;
    return { sampling, mask: mask?.bits, promptTokens: this.prompt, completionTokens };
  }
}

/** One particle: a completion under way, and its weight. */
import type { SamplingParams, Seed, Session, TokenId, TokenLogprob } from "../runtime/mod.ts";
import type { Place, TokenSource, Told } from "./_awrs_source.ts";
import type { StopCheck } from "./strategy.ts";

/** What particles of a completion share. */
export interface ParticleOptions<S> {
  readonly source: TokenSource<S>;
  readonly sampling: SamplingParams;
  readonly promptTokens: readonly TokenId[];
  readonly maxTokens: number;
  readonly logprobs: number | undefined;
}

/** See file comment. Closes its session as it ends. */
export class Particle<S extends Session<"edit"> = Session<"edit">> implements Disposable {
  readonly #options: ParticleOptions<S>;
  readonly #session: S;
  readonly #seed: Seed;
  readonly #stops: StopCheck;
  #state: unknown;
  readonly tokens: TokenId[] = [];
  readonly logprobs: TokenLogprob[] = [];
  /** ln of the weight; -Infinity = dead. */
  logWeight = 0;
  #reason: "stop" | "length" | undefined;

  /** @param seed of the particle's noise */
  constructor(
    options: ParticleOptions<S>,
    start: {
      readonly session: S;
      readonly seed: Seed;
      readonly stops: StopCheck;
      readonly state: unknown;
    },
  ) {
    this.#options = options;
    this.#session = start.session;
    this.#seed = start.seed;
    this.#stops = start.stops;
    this.#state = start.state;
  }

  /** Why the completion ended; undefined while it goes on, and for dead ones. */
  get reason(): "stop" | "length" | undefined {
    return this.#reason;
  }

  get isAlive(): boolean {
    return this.logWeight > -Infinity;
  }

  get isGoing(): boolean {
    return this.isAlive && this.#reason === undefined;
  }

  /** Text so far, without a stop string. */
  get text(): string {
    return this.#stops.text();
  }

  get seed(): Seed {
    return this.#seed;
  }

  /** Draws a token, or ends. */
  async advance(): Promise<void> {
    this.#take(await this.#options.source.draw(this.#session, this.#state, this.#place()));
    if (!this.isGoing) this[Symbol.dispose]();
  }

  /** A copy that goes on with other noise. Ended ones hold no session, and neither do their copies. */
  fork(seed: Seed): Particle<S> {
    const session = this.isGoing ? this.#session.fork() : this.#session;
    const copy = new Particle(this.#options, {
      session,
      seed,
      stops: this.#stops.fork(),
      state: this.#state,
    });
    copy.tokens.push(...this.tokens);
    copy.logprobs.push(...this.logprobs);
    copy.logWeight = this.logWeight;
    copy.#reason = this.#reason;
    return copy;
  }

  #place(): Place {
    const { sampling, promptTokens, maxTokens, logprobs } = this.#options;
    return {
      sampling,
      promptTokens,
      completionTokens: this.tokens,
      seed: this.#seed,
      position: promptTokens.length + this.tokens.length,
      isLast: this.tokens.length === maxTokens - 1,
      logprobs,
    };
  }

  #take({ step, logprob }: Told): void {
    if (step.kind === "dead") {
      this.logWeight = -Infinity;
      return;
    }
    if (step.kind === "complete") {
      this.#reason = "stop";
      return;
    }
    const { token, logWeight, next } = step;
    this.#session.append([token]);
    this.tokens.push(token);
    const { logprobs } = this.#options;
    if (logprobs !== undefined) this.logprobs.push(logprob(token, logprobs));
    this.logWeight += logWeight;
    this.#state = next;
    if (this.#stops.push(token)) this.#reason = "stop";
    else if (this.tokens.length === this.#options.maxTokens) this.#reason = "length";
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}

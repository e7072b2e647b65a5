/** A session whose rows come from a law, at once: for enumerations that run code thousands of times. */
import type { At, Session, TokenId } from "../../runtime/mod.ts";

/** Probabilities of the next token after a completion. */
export type PrefixLaw = (completion: readonly TokenId[]) => ArrayLike<number>;

/** See file comment. Logits are natural logs of the law's probabilities. */
export class InstantSession implements Session<"edit" | "logits"> {
  readonly #tokens: TokenId[];
  readonly committed = 0;

  constructor(
    readonly law: PrefixLaw,
    readonly prompt: readonly TokenId[] = [0],
    completion: readonly TokenId[] = [],
  ) {
    this.#tokens = [...prompt, ...completion];
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  get length(): number {
    return this.#tokens.length;
  }

  append(tokens: readonly TokenId[]): void {
    this.#tokens.push(...tokens);
  }

  truncate(length: number): void {
    if (length > this.length) throw new RangeError(`${length} is above ${this.length}`);
    this.#tokens.length = length;
  }

  logits({ last = 1 }: At = {}): Promise<readonly Float32Array[]> {
    return Promise.resolve(Array.from({ length: last }, (_, i) => {
      const end = this.length - last + 1 + i;
      return Float32Array.from(this.law(this.#tokens.slice(this.prompt.length, end)), Math.log);
    }));
  }

  fork(): this {
    const completion = this.#tokens.slice(this.prompt.length);
    return new InstantSession(this.law, this.prompt, completion) as this;
  }

  [Symbol.dispose](): void {}
}

/**
 * An urn of which only the most likely tokens are known: the others are one event with what is left of the
 * mass. When that is drawn it has a negative id, until it is revealed which token it was.
 */
import { EngineError, type Rng, type TokenId, type TopK } from "../runtime/mod.ts";
import type { Urn } from "./_awrs_estimators.ts";

/** Mass that rounding of what was told may leave to unseen tokens. */
const negligible = 1e-6;

/** See file comment. */
export class RemoteUrn implements Urn {
  readonly #rng: Pick<Rng, "next">;
  readonly #isGreedy: boolean;
  readonly #mass = new Map<TokenId, number>();
  readonly #aliases = new Map<number, TokenId>();
  readonly #removed = new Set<TokenId>();
  readonly #drawn = new Set<TokenId>();
  #unseen: number;
  #revealed = 0;

  /** @param isGreedy draws from the most likely on instead of by chance */
  constructor(top: TopK, rng: Pick<Rng, "next">, isGreedy: boolean) {
    for (const { token, logprob } of top.candidates) this.#mass.set(token, Math.exp(logprob));
    this.#unseen = top.rest;
    this.#rng = rng;
    this.#isGreedy = isGreedy;
  }

  get peak(): number {
    return Math.max(...this.#mass.values());
  }

  /** Every token that was told or revealed. */
  known(): readonly TokenId[] {
    return [...this.#mass.keys()];
  }

  /** The token behind an id. */
  real(id: number): TokenId {
    return this.#aliases.get(id) ?? id;
  }

  prob(id: number): number {
    return this.#mass.get(this.real(id))!;
  }

  /**
   * Says which token was drawn as `id`.
   *
   * @throws {EngineError} if it cannot be that one, or cannot be so likely
   */
  resolve(id: number, token: TokenId, mass: number): void {
    if (this.#mass.has(token) || !(mass <= this.#unseen + 1e-4)) {
      throw new EngineError("A model drew a token that was excluded, or told another law's odds");
    }
    this.#aliases.set(id, token);
    this.#mass.set(token, mass);
    this.#drawn.add(token);
    this.#unseen = Math.max(0, this.#unseen - mass);
  }

  draw(): number | undefined {
    const open = [...this.#mass].filter(([token]) =>
      !this.#removed.has(token) && !this.#drawn.has(token)
    );
    const unseen = this.#isGreedy || this.#unseen > negligible ? this.#unseen : 0;
    const total = open.reduce((sum, [, mass]) => sum + mass, unseen);
    // Known tokens come best first, so without chance the first one is the next.
    let left = this.#isGreedy ? 0 : this.#rng.next() * total;
    for (const [token, mass] of open) {
      left -= mass;
      if (left < 0) return this.#take(token);
    }
    if (unseen > 0) return --this.#revealed;
    const [last] = open.at(-1) ?? []; // rounding
    return last === undefined ? undefined : this.#take(last);
  }

  #take(token: TokenId): TokenId {
    this.#drawn.add(token);
    return token;
  }

  remove(id: number): void {
    this.#removed.add(this.real(id));
  }

  refill(): void {
    this.#drawn.clear();
  }

  left(): number {
    let sum = this.#unseen;
    for (const [token, mass] of this.#mass) if (!this.#removed.has(token)) sum += mass;
    return Math.min(1, sum);
  }

  phantoms(limit: number): number {
    const left = this.left();
    if (this.#removed.size === 0 || left >= 1) return 0;
    return Math.min(limit, Math.floor(Math.log(1 - this.#rng.next()) / Math.log1p(-left)));
  }
}

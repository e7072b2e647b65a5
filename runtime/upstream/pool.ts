/** The replicas of one upstream: which one takes the next call, and which are left alone. */
import type { UpstreamError } from "../errors.ts";
import { Breaker, type BreakerState } from "./breaker.ts";
import { countsAgainstReplica, failure } from "./failure.ts";
import type { Replica, UpstreamHost, UpstreamSpec } from "./types.ts";

/** How a call ended, as far as its replica is concerned. */
export type CallOutcome = "done" | "abandoned" | UpstreamError;

/** A call's place at a replica. */
export interface Lease {
  readonly replica: Replica;
  /** Index in the configuration. */
  readonly index: number;
  /** Gives the place back. Later calls change nothing. */
  release(outcome: CallOutcome): void;
}

/** What a call wants of its replica. */
export interface LeaseRequest {
  readonly signal: AbortSignal;
  /** Same key, same replica, as long as the load allows. */
  readonly affinity: string | undefined;
  /** Replicas that already failed this request: taken only if there is no other. */
  readonly tried: ReadonlySet<number>;
}

/** What listings and metrics say about a replica. */
export interface ReplicaState {
  readonly running: number;
  readonly circuit: BreakerState;
  readonly healthy: boolean;
}

interface Place {
  readonly replica: Replica;
  readonly index: number;
  readonly breaker: Breaker;
  running: number;
  healthy: boolean;
  /** Asked to be left alone until then. */
  restUntil: number;
}

/** How much fuller than its share the preferred replica may be. */
const AFFINITY_SLACK = 1.25;

/** Chooses replicas and counts what runs at them. */
export class Pool {
  readonly #spec: UpstreamSpec;
  readonly #host: UpstreamHost;
  readonly #places: readonly Place[];
  readonly #waiting: (() => void)[] = [];

  constructor(spec: UpstreamSpec, host: UpstreamHost) {
    this.#spec = spec;
    this.#host = host;
    this.#places = spec.replicas.map((replica, index) => ({
      replica,
      index,
      breaker: new Breaker(spec.breaker),
      running: 0,
      healthy: true,
      restUntil: -Infinity,
    }));
  }

  /** State of every replica, in the order of the configuration. */
  states(): readonly ReplicaState[] {
    const now = this.#host.now();
    return this.#places.map(({ running, breaker, healthy }) => ({
      running,
      circuit: breaker.state(now),
      healthy,
    }));
  }

  /** Writes down what a health probe found. */
  mark(index: number, healthy: boolean): void {
    const place = this.#places[index]!;
    if (place.healthy !== healthy) {
      this.#log(place, healthy ? "upstream_healthy" : "upstream_unhealthy");
    }
    place.healthy = healthy;
    if (healthy) this.#wake();
  }

  /** Whether any other replica could take the request now. */
  hasOther(tried: ReadonlySet<number>): boolean {
    const now = this.#host.now();
    return this.#places.some((place) => !tried.has(place.index) && canTake(place, now));
  }

  /**
   * A place at a replica; waits while all that could take the call are full.
   *
   * @throws {UpstreamError} `circuit_open`, `rate_limited`, `busy`; or the signal's reason
   */
  async acquire(request: LeaseRequest): Promise<Lease> {
    for (;;) {
      request.signal.throwIfAborted();
      const place = this.#choose(request);
      if (place) return this.#lease(place);
      await this.#turn(request.signal);
    }
  }

  /** Undefined if all that could take it are full. */
  #choose({ affinity, tried }: LeaseRequest): Place | undefined {
    const now = this.#host.now();
    const able = this.#places.filter((place) => canTake(place, now));
    if (able.length === 0) throw this.#nobody(now);
    const fresh = able.filter((place) => !tried.has(place.index));
    const open = fresh.length > 0 ? fresh : able;
    const up = open.filter(({ healthy }) => healthy);
    const free = (up.length > 0 ? up : open)
      .filter(({ running, replica }) => running < replica.maxConnections);
    if (free.length === 0) return undefined;
    const first = Math.min(...free.map(({ replica }) => replica.priority));
    const group = free.filter(({ replica }) => replica.priority === first);
    const preferred = affinity === undefined ? undefined : preferredOf(group, affinity);
    return preferred && !isOverloaded(preferred, group) ? preferred : this.#leastLoaded(group);
  }

  /** Fewest running per weight; among equals by chance, weighted. */
  #leastLoaded(group: readonly Place[]): Place {
    const load = (place: Place) => place.running / place.replica.weight;
    const least = Math.min(...group.map(load));
    const equal = group.filter((place) => load(place) === least);
    const total = equal.reduce((sum, { replica }) => sum + replica.weight, 0);
    let at = this.#host.random() * total;
    for (const place of equal) if ((at -= place.replica.weight) < 0) return place;
    return equal.at(-1)!;
  }

  #lease(place: Place): Lease {
    place.breaker.begin(this.#host.now());
    place.running++;
    let isReleased = false;
    return {
      replica: place.replica,
      index: place.index,
      release: (outcome) => {
        if (isReleased) return;
        isReleased = true;
        place.running--;
        this.#settle(place, outcome);
        this.#wake();
      },
    };
  }

  #settle(place: Place, outcome: CallOutcome): void {
    const now = this.#host.now();
    if (outcome === "abandoned") return place.breaker.abandoned();
    if (outcome === "done") {
      place.healthy = true;
      return place.breaker.succeeded();
    }
    if (outcome.retryAfterMs !== undefined && outcome.kind !== "rejected") {
      place.restUntil = now + Math.min(outcome.retryAfterMs, this.#spec.breaker.openMs * 6);
    }
    if (!countsAgainstReplica(outcome)) return place.breaker.abandoned();
    const before = place.breaker.state(now);
    place.breaker.failed(now);
    if (before === "closed" && place.breaker.state(now) === "open") {
      this.#log(place, "circuit_open", outcome.kind);
    }
  }

  /** Why no replica can take a call, and when one can. */
  #nobody(now: number): UpstreamError {
    const { id } = this.#spec;
    const waits = this.#places.map(({ breaker, restUntil }) =>
      Math.max(breaker.allows(now) ? 0 : Math.max(1, breaker.waitMs(now)), restUntil - now)
    );
    const retryAfterMs = Math.ceil(Math.min(...waits));
    const isResting = this.#places.some(({ breaker }) => breaker.allows(now));
    return isResting
      ? failure(id, "rate_limited", "it asked for a pause", { retryAfterMs })
      : failure(id, "circuit_open", "it failed too often and is left alone", { retryAfterMs });
  }

  /** Waits until a place is given back. */
  async #turn(signal: AbortSignal): Promise<void> {
    const { id, queue } = this.#spec;
    if (this.#waiting.length >= queue) {
      throw failure(id, "busy", "all connections are taken", { retryAfterMs: 1000 });
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => reject(signal.reason);
    this.#waiting.push(resolve);
    signal.addEventListener("abort", leave, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", leave);
      const at = this.#waiting.indexOf(resolve);
      if (at >= 0) this.#waiting.splice(at, 1);
      else if (signal.aborted) this.#wake(); // the turn was ours and somebody else may have it
    }
  }

  #wake(): void {
    this.#waiting.shift()?.();
  }

  #log({ index }: Place, event: string, detail?: string): void {
    this.#host.log?.({
      level: event === "upstream_healthy" ? "info" : "warn",
      event,
      upstream: this.#spec.id,
      replica: index,
      ...detail === undefined ? {} : { detail },
    });
  }
}

function canTake({ breaker, restUntil }: Place, now: number): boolean {
  return now >= restUntil && breaker.allows(now);
}

function isOverloaded(place: Place, group: readonly Place[]): boolean {
  const running = group.reduce((sum, one) => sum + one.running, 1);
  const weight = group.reduce((sum, { replica }) => sum + replica.weight, 0);
  return place.running + 1 > Math.ceil(AFFINITY_SLACK * running * place.replica.weight / weight);
}

/**
 * The replica a key belongs to: few keys move when replicas come or go.
 *
 * Source: Thaler & Ravishankar 1998, rendezvous hashing, with the weights of Schindelhauer & Schomaker
 * 2005; capped as in Mirrokni et al. 2018, "Consistent hashing with bounded loads".
 */
function preferredOf(group: readonly Place[], key: string): Place {
  const score = ({ index, replica }: Place) =>
    -replica.weight / Math.log((hash(`${index}/${key}`) + 0.5) / 4294967296);
  return group.reduce((best, place) => score(place) > score(best) ? place : best);
}

/** FNV-1a with a final mix, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

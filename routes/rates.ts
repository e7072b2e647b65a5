/**
 * Budgets per minute: token buckets that fill evenly, so that a quiet minute can be spent at once
 * and never more than that.
 */
import { ApiError } from "./errors.ts";

/** A bucket as it is stored. */
export interface Bucket {
  /** What is left; below zero after a request that cost more than was reserved. */
  readonly level: number;
  /** When that was so, in Unix seconds. */
  readonly at: number;
}

/** Where buckets live: in this process, or shared by several. */
export interface RateStore {
  /**
   * Replaces a bucket by what `change` makes of it, atomically; `change` may be called again.
   *
   * @param name at most 100 characters of `[a-z0-9:]`
   */
  update<T>(
    name: string,
    change: (bucket: Bucket | undefined) => { readonly bucket: Bucket; readonly result: T },
  ): Promise<T>;
}

/** Buckets in this process. */
export function memoryRateStore(): RateStore {
  const buckets = new Map<string, Bucket>();
  return {
    update(name, change) {
      const { bucket, result } = change(buckets.get(name));
      buckets.set(name, bucket);
      return Promise.resolve(result);
    },
  };
}

/** What a caller has left, for the `x-ratelimit-*` headers. */
export interface RateStatus {
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until the bucket is full again. */
  readonly resetSeconds: number;
}

/** One budget of one key. */
export interface Budget {
  readonly name: string;
  /** Per minute. */
  readonly limit: number;
}

/** What came of {@link takeFrom}. */
export interface Taken extends RateStatus {
  /** Seconds until so much is there; 0 = it was taken. */
  readonly waitSeconds: number;
}

/** Takes `amount` (at most the limit counts) if it is there. */
export function takeFrom(
  store: RateStore,
  { name, limit }: Budget,
  amount: number,
  now: number,
): Promise<Taken> {
  const wanted = Math.min(amount, limit);
  return store.update(name, (bucket) => {
    const level = levelAt(bucket, limit, now);
    const taken = level >= wanted;
    const left = taken ? level - wanted : level;
    const result: Taken = {
      ...statusOf(left, limit),
      waitSeconds: taken ? 0 : Math.max(1, Math.ceil((wanted - level) / limit * 60)),
    };
    return { bucket: { level: left, at: Math.max(now, bucket?.at ?? now) }, result };
  });
}

/** Puts back what was not needed, or takes what was needed besides (negative). */
export function settle(
  store: RateStore,
  { name, limit }: Budget,
  amount: number,
  now: number,
): Promise<void> {
  return store.update(name, (bucket) => ({
    bucket: {
      level: Math.min(limit, levelAt(bucket, limit, now) + amount),
      at: Math.max(now, bucket?.at ?? now),
    },
    result: undefined,
  }));
}

function levelAt(bucket: Bucket | undefined, limit: number, now: number): number {
  if (bucket === undefined) return limit;
  return Math.min(limit, bucket.level + Math.max(0, now - bucket.at) / 60 * limit);
}

function statusOf(level: number, limit: number): RateStatus {
  return {
    limit,
    remaining: Math.max(0, Math.floor(level)),
    resetSeconds: Math.ceil((limit - level) / limit * 60),
  };
}

/** 429 with the time until it may work. */
export function rateExceeded(what: "requests" | "tokens", waitSeconds: number): ApiError {
  return new ApiError(
    429,
    "rate_limit_exceeded",
    `This key has used up its ${what} per minute; try again in ${waitSeconds} s`,
    { headers: { "retry-after": String(waitSeconds) } },
  );
}

/** `x-ratelimit-*` headers of one budget. */
export function rateHeaders(what: "requests" | "tokens", status: RateStatus): [string, string][] {
  return [
    [`x-ratelimit-limit-${what}`, String(status.limit)],
    [`x-ratelimit-remaining-${what}`, String(status.remaining)],
    [`x-ratelimit-reset-${what}`, `${status.resetSeconds}s`],
  ];
}

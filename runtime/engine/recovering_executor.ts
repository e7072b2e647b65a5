/**
 * An executor that opens its model again after the device under it was lost.
 *
 * The step that was running fails with DeviceLostError, which callers may retry; later ones wait until
 * the model is back. What was in device memory is gone: the engine computes it again from tokens.
 */
import { ClosedError, DeviceLostError } from "../errors.ts";
import type { Batch, BatchResult, Executor } from "./executor.ts";

/** An opened executor and, where its device can be lost, how to hear of it. */
export interface OpenedExecutor<E extends Executor> {
  readonly executor: E;
  /** Resolves with the reason when the device is lost. */
  readonly lost?: Promise<string> | undefined;
}

/** How long to wait before the n-th attempt (from 0) to open again, in ms. */
export type Backoff = (attempt: number) => number;

const backoffMs: Backoff = (attempt) => Math.min(30_000, 250 * 2 ** attempt);

/** Settings of {@link createRecoveringExecutor}. */
export interface RecoveringOptions {
  /** Told when the device is lost and when it is back. */
  readonly onReady?: (isReady: boolean) => void;
  /** @default 250 ms, doubled with each failure, up to half a minute */
  readonly backoff?: Backoff;
}

/** An executor that may be away for a while. */
export type RecoveringExecutor<E extends Executor> = E & { readonly isReady: boolean };

/** @throws whatever the first `open` throws; later failures are tried again */
export async function createRecoveringExecutor<E extends Executor>(
  open: () => Promise<OpenedExecutor<E>>,
  { onReady = () => {}, backoff = backoffMs }: RecoveringOptions = {},
): Promise<RecoveringExecutor<E>> {
  const state = new Recovery(open, onReady, backoff);
  const first = await state.start();
  return Object.create(first, {
    isReady: { get: () => state.isReady },
    execute: { value: (batch: Batch) => state.execute(batch) },
    [Symbol.asyncDispose]: { value: () => state.close() },
  });
}

class Recovery<E extends Executor> {
  readonly #open: () => Promise<OpenedExecutor<E>>;
  readonly #onReady: (isReady: boolean) => void;
  readonly #backoff: Backoff;
  #current: E | undefined;
  #back: Promise<void> = Promise.resolve();
  #isClosed = false;
  #wake: () => void = () => {};

  constructor(
    open: () => Promise<OpenedExecutor<E>>,
    onReady: (isReady: boolean) => void,
    backoff: Backoff,
  ) {
    this.#open = open;
    this.#onReady = onReady;
    this.#backoff = backoff;
  }

  get isReady(): boolean {
    return this.#current !== undefined;
  }

  async start(): Promise<E> {
    const { executor, lost } = await this.#open();
    if (this.#isClosed) {
      await executor[Symbol.asyncDispose]();
      throw new ClosedError("The executor was closed");
    }
    this.#current = executor;
    lost?.then(() => this.#lose(executor));
    return executor;
  }

  async execute(batch: Batch): Promise<BatchResult> {
    await this.#back;
    const executor = this.#current;
    if (executor === undefined) throw new ClosedError("The executor was closed");
    try {
      return await executor.execute(batch);
    } catch (error) {
      if (error instanceof DeviceLostError) this.#lose(executor);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    await this.#current?.[Symbol.asyncDispose]();
    this.#current = undefined;
  }

  #lose(executor: E): void {
    if (this.#current !== executor || this.#isClosed) return;
    this.#current = undefined;
    this.#onReady(false);
    this.#back = this.#reopen(executor);
  }

  async #reopen(old: E): Promise<void> {
    try {
      await old[Symbol.asyncDispose]();
    } catch {
      // Its memory went with the device.
    }
    for (let attempt = 0; !this.#isClosed; attempt++) {
      try {
        await this.start();
        this.#onReady(true);
        return;
      } catch {
        await this.#pause(this.#backoff(attempt));
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/**
 * An executor that opens its model again after the device under it was lost.
 *
 * The step that was running, or else the next one, fails with DeviceLostError, so that the engine
 * hears that device memory is gone and computes it again from tokens; callers may retry. Later steps
 * wait until the model is back.
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
  /** Why the device was lost, until a step has failed with it. */
  #untold: string | undefined;
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
    lost?.then((reason) => this.#lose(executor, reason));
    return executor;
  }

  async execute(batch: Batch): Promise<BatchResult> {
    const untold = this.#untold;
    this.#untold = undefined;
    if (untold !== undefined) throw new DeviceLostError(untold);
    await this.#back;
    const executor = this.#current;
    if (executor === undefined) throw new ClosedError("The executor was closed");
    try {
      return await executor.execute(batch);
    } catch (error) {
      if (error instanceof DeviceLostError) {
        this.#lose(executor, error.reason);
        this.#untold = undefined;
      }
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    await this.#current?.[Symbol.asyncDispose]();
    this.#current = undefined;
  }

  #lose(executor: E, reason: string): void {
    if (this.#current !== executor || this.#isClosed) return;
    this.#untold = reason;
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

/**
 * Generations asked for in one turn of the event loop become one call with `n`, where they differ in
 * nothing but their noise; a stream is read once and dealt out to all of them.
 */
import type { EventStream } from "./call.ts";
import type { WireEvent, WirePiece, WireUsage } from "./wire.ts";

/** One of several generations that share a call. */
export interface Member {
  /** New output; undefined at the end. */
  next(): Promise<WirePiece | undefined>;
  /** The others go on; the call ends with the last. */
  close(): void;
}

/** A call that members read together. */
export interface SharedCall {
  /** Starts the call. */
  readonly open: () => Promise<EventStream>;
  /** Ends it, also while it is being opened. */
  readonly abort: () => void;
  /** Told what the whole call took, if the upstream says so, before the last member ends. */
  readonly used: (usage: WireUsage) => void;
}

/** Deals a stream out. Nothing is read unless a member waits for it. */
export class SharedStream {
  readonly #call: SharedCall;
  readonly #queues: WirePiece[][];
  readonly #unfinished: Set<number>;
  readonly #live: Set<number>;
  #stream: EventStream | undefined;
  #reading: Promise<void> | undefined;
  #isOver = false;
  /** Tokens the upstream says it drew, and tokens seen. */
  #told = 0;
  #counted = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(call: SharedCall, members: number) {
    this.#call = call;
    const all = Array.from({ length: members }, (_, index) => index);
    this.#queues = all.map(() => []);
    this.#unfinished = new Set(all);
    this.#live = new Set(all);
  }

  /** The generation at one index. */
  member(index: number): Member {
    return {
      next: () => this.#next(index),
      close: () => {
        this.#queues[index]!.length = 0;
        if (!this.#live.delete(index) || this.#live.size > 0) return;
        this.#isOver = true;
        this.#stream?.close();
        this.#call.abort();
      },
    };
  }

  async #next(index: number): Promise<WirePiece | undefined> {
    const queue = this.#queues[index]!;
    while (queue.length === 0) {
      if (this.#isOver) return this.#correction(index);
      if (this.#failure) throw this.#failure.error;
      // Whoever finishes last also waits for the usage.
      if (!this.#unfinished.has(index) && this.#unfinished.size > 0) return undefined;
      this.#reading ??= this.#read().finally(() => this.#reading = undefined);
      await this.#reading;
    }
    return queue.shift();
  }

  async #read(): Promise<void> {
    try {
      this.#stream ??= await this.#call.open();
      if (this.#isOver) return this.#stream.close();
      const first = await this.#stream.next();
      if (!first) this.#isOver = true;
      // What came in one read goes on in one piece: it is late already.
      for (let event = first; event; event = this.#stream.take()) this.#deal(event);
    } catch (error) {
      this.#failure = { error };
    }
  }

  /** Tokens that came several to an event, or as no text at all: told by the usage alone. */
  #correction(index: number): WirePiece | undefined {
    const count = this.#told - this.#counted;
    if (count <= 0 || !this.#live.has(index)) return undefined;
    this.#counted = this.#told;
    return { index, text: "", count, tokens: undefined, logprobs: undefined, finish: undefined };
  }

  #deal({ pieces, usage }: WireEvent): void {
    if (usage) {
      this.#call.used(usage);
      this.#told = usage.completionTokens;
    }
    for (const piece of pieces) {
      this.#counted += piece.logprobs?.length ?? countOf(piece);
      if (piece.finish) this.#unfinished.delete(piece.index);
      if (!this.#live.has(piece.index)) continue;
      const queue = this.#queues[piece.index]!;
      const joined = merged(queue.at(-1), piece);
      if (joined) queue[queue.length - 1] = joined;
      else queue.push(piece);
    }
  }
}

/** One piece of neighbours, where nobody wants to know their tokens. */
function merged(a: WirePiece | undefined, b: WirePiece): WirePiece | undefined {
  if (b.reasoning !== undefined && a?.text !== "") return undefined; // thoughts come before their text
  if (!a || a.finish || a.logprobs || b.logprobs || a.tokens || b.tokens) return undefined;
  const count = countOf(a) + countOf(b);
  const reasoning = (a.reasoning ?? "") + (b.reasoning ?? "");
  return { ...b, text: a.text + b.text, count, ...reasoning === "" ? {} : { reasoning } };
}

/** Events that carry text count, those that open or end a choice do not. */
function countOf({ text, reasoning, count = 1 }: WirePiece): number {
  return text === "" && reasoning === undefined ? 0 : count;
}

/** Joins what is asked for before the next turn of the event loop. */
export class NextTurn<T> {
  readonly #run: (items: readonly T[]) => void;
  readonly #later: (run: () => void) => void;
  #items: T[] = [];

  /** @param later calls back in the next turn, after all that can still run in this one */
  constructor(later: (run: () => void) => void, run: (items: readonly T[]) => void) {
    this.#later = later;
    this.#run = run;
  }

  add(item: T): void {
    this.#items.push(item);
    if (this.#items.length > 1) return;
    this.#later(() => {
      const items = this.#items;
      this.#items = [];
      this.#run(items);
    });
  }
}

/**
 * Deterministic states made when they are needed.
 *
 * Source: R. Cox, Regular expression matching in the wild, 2010: subset construction on demand with
 * a cache that is emptied when full.
 */
import type { Budget } from "./budget.ts";
import type { Nfa } from "./nfa.ts";

/** A set of places in the pattern. Held states stay valid when the cache is emptied. */
export interface DfaState {
  /** Ascending states of the {@link Nfa}: only those with edges, and the accepting one. */
  readonly places: Uint16Array;
  readonly key: string;
  readonly isAccepting: boolean;
  /** Whether tokens of the vocabulary lead from here to an accepting state. */
  readonly isHopeful: boolean;
  /** By class of bytes: the next state, null for none, undefined for not yet known. */
  readonly next: (DfaState | null | undefined)[];
  readonly generation: number;
}

/** How to make deterministic states. */
export interface DfaOptions {
  readonly nfa: Nfa;
  /** One byte per state of the automaton: whether anything accepting can be reached by bytes. */
  readonly alive: Uint8Array;
  /** The same by tokens. */
  readonly hopeful: Uint8Array;
  /** How many states to keep. */
  readonly cachedStates: number;
}

/** Places kept over all states, so that few large states cannot fill the memory either. */
const maxCachedPlaces = 1 << 21;

/** The deterministic automaton. */
export class Dfa {
  /** Class of each byte: bytes no edge tells apart share one. */
  readonly classOf: Uint8Array;
  readonly #options: DfaOptions;
  readonly #states = new Map<string, DfaState>();
  readonly #classes: number;
  readonly #seen: Uint32Array;
  #round = 0;
  #generation = 0;
  #places = 0;

  constructor(options: DfaOptions) {
    this.#options = options;
    this.classOf = byteClasses(options.nfa);
    this.#classes = this.classOf[255]! + 1;
    this.#seen = new Uint32Array(options.nfa.size);
  }

  /** How often the cache was emptied. */
  get generation(): number {
    return this.#generation;
  }

  /** The state of everything reachable from these places without a byte. */
  stateAt(places: readonly number[], budget: Budget): DfaState | null {
    this.#beginSet();
    const found: number[] = [];
    for (const place of places) this.#collect(place, found, budget);
    return this.#intern(found);
  }

  /** The state after a byte, or null if none of the texts goes on with it. */
  step(from: DfaState, byte: number, budget: Budget): DfaState | null {
    const cls = this.classOf[byte]!;
    const known = from.next[cls];
    if (known !== undefined) return known;
    const { edges } = this.#options.nfa;
    this.#beginSet();
    const found: number[] = [];
    for (const place of from.places) {
      const out = edges[place]!;
      budget.spend(1 + out.length / 3);
      for (let i = 0; i < out.length; i += 3) {
        if (out[i]! <= byte && byte <= out[i + 1]!) this.#collect(out[i + 2]!, found, budget);
      }
    }
    const to = this.#intern(found);
    // A forgotten state does not learn: it would hold on to states of later generations.
    if (from.generation === this.#generation) from.next[cls] = to;
    return to;
  }

  /** The state that stands for a held one now. */
  current(state: DfaState): DfaState {
    return state.generation === this.#generation ? state : this.#intern([...state.places])!;
  }

  #beginSet(): void {
    this.#round++;
    if (this.#round > 0xffff_ffff) {
      this.#seen.fill(0);
      this.#round = 1;
    }
  }

  /** Adds the places reachable without a byte that matter, each once. */
  #collect(place: number, found: number[], budget: Budget): void {
    const { nfa: { edges, free, accept }, alive } = this.#options;
    const todo = [place];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      if (this.#seen[at] === this.#round || !alive[at]) continue;
      this.#seen[at] = this.#round;
      budget.spend(1 + free[at]!.length);
      if (at === accept || edges[at]!.length > 0) found.push(at);
      for (const to of free[at]!) todo.push(to);
    }
  }

  #intern(found: readonly number[]): DfaState | null {
    if (found.length === 0) return null;
    const { nfa, hopeful, cachedStates } = this.#options;
    const places = Uint16Array.from(found).sort();
    const key = keyOf(places);
    const known = this.#states.get(key);
    if (known) return known;
    if (this.#states.size >= cachedStates || this.#places + places.length > maxCachedPlaces) {
      this.#states.clear();
      this.#places = 0;
      this.#generation++;
    }
    const state: DfaState = {
      places,
      key,
      isAccepting: places.includes(nfa.accept),
      isHopeful: places.some((place) => hopeful[place] === 1),
      next: new Array(this.#classes).fill(undefined),
      generation: this.#generation,
    };
    this.#states.set(key, state);
    this.#places += places.length;
    return state;
  }
}

/** One UTF-16 unit per place. */
function keyOf(places: Uint16Array): string {
  let key = "";
  for (let i = 0; i < places.length; i += 4096) {
    key += String.fromCharCode(...places.subarray(i, i + 4096));
  }
  return key;
}

function byteClasses({ edges }: Nfa): Uint8Array {
  const starts = new Uint8Array(257);
  for (const out of edges) {
    for (let i = 0; i < out.length; i += 3) {
      starts[out[i]!] = 1;
      starts[out[i + 1]! + 1] = 1;
    }
  }
  const classOf = new Uint8Array(256);
  for (let byte = 1; byte < 256; byte++) classOf[byte] = classOf[byte - 1]! + starts[byte]!;
  return classOf;
}

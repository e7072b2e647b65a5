/** What the comparison measures, and in which order. */
import { parseArgs } from "node:util";
import type { LoadCommand, WorkCommand } from "./_side.ts";
import type { Peer } from "./rounds.ts";
import { type BlockType, shapes } from "./shapes.ts";

/** What to run. */
export interface Selection {
  readonly shapes: readonly string[];
  readonly types: readonly BlockType[];
  readonly threads: readonly number[];
  readonly peers: readonly Peer[];
  /** Times every case is measured. @default by shape: 5, 3 and 3 */
  readonly rounds?: number;
}

/** One file on one number of threads: both sides load it once. */
export interface Setting {
  readonly model: string;
  readonly type: BlockType;
  readonly threads: number;
  readonly rounds: number;
}

/** Longest stream in tokens. */
const CONTEXT = 512;
const STREAMS = 8;

/** Pieces of work, by name. */
export const cases: Readonly<Record<string, Omit<WorkCommand, "vocab">>> = {
  decode: { streams: 1, tokens: 1, steps: 128 },
  prefill: { streams: 1, tokens: CONTEXT, steps: 1 },
  "streams-4": { streams: 4, tokens: 1, steps: 16 },
  "streams-8": { streams: 8, tokens: 1, steps: 12 },
};

/** Small ones vary more and cost less. */
const defaultRounds: Readonly<Record<string, number>> = {
  "SmolLM2-135M": 5,
  "Qwen2.5-0.5B": 3,
  "Llama-3.2-1B": 3,
};

/** Everything that is measured, smallest shape first. */
export const everything: Selection = {
  shapes: Object.keys(shapes),
  types: ["Q4_0", "Q8_0"],
  threads: [1, 2],
  peers: ["llama", "transformers"],
};

/** A minute: the smallest shape. */
export const quick: Selection = { ...everything, shapes: ["SmolLM2-135M"], rounds: 2 };

/** From the command line, see compare.ts. @throws {RangeError} naming what is not known */
export function select(args: string[]): Selection & { readonly isWhole: boolean } {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      shapes: { type: "string" },
      types: { type: "string" },
      threads: { type: "string" },
      rounds: { type: "string" },
      peers: { type: "string" },
    },
  });
  const base = values.quick ? quick : everything;
  const selection = {
    ...base,
    // What the README shows.
    isWhole: !values.quick && !values.shapes && !values.types && !values.threads && !values.peers,
    ...(values.shapes === undefined ? {} : { shapes: values.shapes.split(",") }),
    ...(values.types === undefined ? {} : { types: values.types.split(",") as BlockType[] }),
    ...(values.threads === undefined ? {} : { threads: values.threads.split(",").map(Number) }),
    ...(values.peers === undefined ? {} : { peers: values.peers.split(",") as Peer[] }),
    ...(values.rounds === undefined ? {} : { rounds: Number(values.rounds) }),
  };
  refuse("shape", selection.shapes, everything.shapes);
  refuse("type", selection.types, everything.types);
  refuse("peer", selection.peers, everything.peers);
  if (selection.threads.some((n) => !(Number.isInteger(n) && n >= 1 && n <= 16))) {
    throw new RangeError("--threads takes whole numbers from 1 to 16");
  }
  if (selection.rounds !== undefined && !(selection.rounds >= 1)) {
    throw new RangeError("--rounds takes a whole number from 1");
  }
  return selection;
}

function refuse(what: string, given: readonly string[], known: readonly string[]): void {
  const unknown = given.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new RangeError(`Unknown ${what} ${unknown}: known are ${known}`);
}

/** Files in the order in which they are written; each is used by all its settings, then removed. */
export function settingsOf(selection: Selection): readonly (readonly Setting[])[] {
  return selection.shapes.flatMap((model) =>
    selection.types.map((type) =>
      selection.threads.map((threads) => ({
        model,
        type,
        threads,
        rounds: selection.rounds ?? defaultRounds[model] ?? 3,
      }))
    )
  );
}

/** How both sides load `path`. */
export function loadCommand(path: string, { threads }: Setting): LoadCommand {
  return { path, threads, streams: STREAMS, context: CONTEXT };
}

/** Slots of the KV cache that the cases fill: each starts at the first position again. */
export function slotsFilled(): number {
  const filled = new Array<number>(STREAMS).fill(0);
  for (const { streams, tokens, steps } of Object.values(cases)) {
    for (let s = 0; s < streams; s++) filled[s] = Math.max(filled[s]!, tokens * steps);
  }
  return filled.reduce((a, b) => a + b);
}

/** A run as a stream of chunks: what chat and plain completions have in common. */
import type { RunEvent } from "../strategies/mod.ts";
import type { Results } from "./generation.ts";
import type { Run } from "./merge_runs.ts";
import { dataFrame, doneFrame } from "./sse.ts";

/** A chunk before it is sent. */
export type WireChunk = Readonly<Record<string, unknown>> & {
  readonly choices: readonly unknown[];
};

/** How a route writes its chunks. */
export interface ChunkFormat {
  /** Choices that will come for certain and may be opened before their first text. */
  readonly sureChoices: number;
  /** What opens a choice, if anything does. */
  open(choice: number): WireChunk | undefined;
  /** Undefined if the event has nothing to tell. */
  text(event: Extract<RunEvent, { type: "text" }>): WireChunk | undefined;
  finish(event: Extract<RunEvent, { type: "finish" }>): WireChunk;
  /** A chunk without choices. */
  empty(): WireChunk;
}

/** What is said besides the text. */
export interface StreamExtras {
  /** Send a last chunk with this usage; every other chunk then says `usage: null`. */
  readonly usage: ((results: Results) => unknown) | undefined;
  /** Put this into the last chunk. */
  readonly decoding: ((results: Results) => unknown) | undefined;
  readonly obfuscate: boolean;
  /** The object to send for a failed run. */
  failed(error: unknown): unknown;
}

/** Padded events are this many characters long, or a multiple of it. */
const paddedLength = 64;

/**
 * Events of a run as frames, `[DONE]` at the end. A failure is an error event before `[DONE]`, and
 * then no choice gets a finish reason it did not earn.
 *
 * @param first the run's first `next()`, already asked for
 */
export async function* chunkFrames(
  run: Run<Results>,
  first: Promise<IteratorResult<RunEvent, Results>>,
  format: ChunkFormat,
  extras: StreamExtras,
): AsyncGenerator<string, void, void> {
  const frame = (chunk: WireChunk) => chunkFrame(chunk, extras);
  const opened = new Set<number>();
  const open = (choice: number): string => {
    if (opened.has(choice)) return "";
    opened.add(choice);
    const chunk = format.open(choice);
    return chunk ? frame(chunk) : "";
  };
  let opening = "";
  for (let choice = 0; choice < format.sureChoices; choice++) opening += open(choice);
  if (opening) yield opening;
  try {
    // The last finish chunk may have to carry metadata that only the run's end brings.
    let held: WireChunk | undefined;
    let step = await first;
    while (!step.done) {
      const event = step.value;
      let text = open(event.choice);
      if (held) text += frame(held);
      held = undefined;
      const chunk = event.type === "text" ? format.text(event) : format.finish(event);
      if (event.type === "finish" && extras.decoding && !extras.usage) held = chunk;
      else if (chunk) text += frame(chunk);
      if (text) yield text;
      step = await run.next();
    }
    yield lastFrames(step.value, held, format, extras) + doneFrame;
  } catch (error) {
    yield dataFrame(extras.failed(error)) + doneFrame;
  }
}

function lastFrames(
  results: Results,
  held: WireChunk | undefined,
  format: ChunkFormat,
  extras: StreamExtras,
): string {
  const decoding = extras.decoding && { decoding: extras.decoding(results) };
  if (extras.usage) {
    return chunkFrame({ ...format.empty(), usage: extras.usage(results), ...decoding }, extras);
  }
  return decoding ? chunkFrame({ ...held ?? format.empty(), ...decoding }, extras) : "";
}

function chunkFrame(chunk: WireChunk, { usage, obfuscate }: StreamExtras): string {
  const full = usage && !("usage" in chunk) ? { ...chunk, usage: null } : chunk;
  if (!obfuscate) return dataFrame(full);
  const bare = JSON.stringify({ ...full, obfuscation: "" });
  const padding = (paddedLength - bare.length % paddedLength) % paddedLength;
  return dataFrame({ ...full, obfuscation: "0".repeat(padding) });
}

/**
 * One side of the comparison in a process of its own: commands come as JSON lines on standard input,
 * answers go as JSON lines to standard output. Both sides get the same tokens.
 */

import process from "node:process";
import type { Profile } from "./_profile.ts";

/** What a side has to be able to do. */
export interface Side {
  /** Loads the file until the first token of a prompt of one token can be asked for. */
  load(options: LoadCommand): Promise<void>;
  /**
   * Computes `tokens` of every stream in one batch, after the `position` tokens each has. Returns the
   * most likely next token of each stream.
   */
  step(
    position: number,
    tokens: readonly Uint32Array<ArrayBuffer>[],
  ): Promise<Uint32Array | readonly number[]>;
  /** Forgets all streams. */
  reset(): void;
  /** Times what steps do, where a side can tell. */
  readonly profile?: { start(): void; end(): Profile };
}

/** How to load. */
export interface LoadCommand {
  readonly path: string;
  readonly threads: number;
  /** Streams that may be open at once. */
  readonly streams: number;
  /** Longest stream in tokens. */
  readonly context: number;
}

/** One measured piece of work. */
export interface WorkCommand {
  readonly streams: number;
  /** Tokens of each stream in one batch: 1 to decode, all of a prompt to prefill. */
  readonly tokens: number;
  readonly steps: number;
  readonly vocab: number;
}

/** What is sent to a side. */
export type Command =
  | { readonly load: LoadCommand }
  | { readonly work: WorkCommand; readonly profile?: boolean }
  | { readonly memory: true }
  /** Does nothing for so many milliseconds, after one second to come to rest. */
  | { readonly idleMs: number };

/** Resident memory in bytes. On Linux the parts are known, elsewhere only the sum. */
export interface Memory {
  readonly resident: number;
  /** Pages of no file. */
  readonly anonymous?: number;
  /** Pages of mapped files: weights, but also the program itself. */
  readonly files?: number;
  /** The most there ever was. */
  readonly peak?: number;
}

/** What it answers. */
export type Answer =
  | { readonly ms: number; readonly argmax?: readonly number[]; readonly profile?: Profile }
  | { readonly memory: Memory }
  /** Processor time in percent of one core. */
  | { readonly idlePercent: number }
  | { readonly error: string };

/** The tokens of stream `stream` from `position` on: made-up, the same for every side. */
export function tokensAt(
  stream: number,
  position: number,
  count: number,
  vocab: number,
): Uint32Array<ArrayBuffer> {
  const mix = (p: number) => Math.imul(p + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b);
  return Uint32Array.from({ length: count }, (_, i) => (mix(position + i) >>> 0) % vocab);
}

/** Answers commands until standard input ends. */
export async function serve(side: Side): Promise<void> {
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
  let rest = "";
  for await (const chunk of lines) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    for (const line of parts) {
      const answer = await run(side, JSON.parse(line) as Command)
        .catch((error: unknown): Answer => ({ error: String(error) }));
      // The loader of native code may print to standard output as well.
      Deno.stdout.writeSync(new TextEncoder().encode(`\n@${JSON.stringify(answer)}\n`));
    }
  }
}

async function run(side: Side, command: Command): Promise<Answer> {
  if ("memory" in command) return { memory: readMemory() };
  if ("idleMs" in command) return { idlePercent: await measureIdle(command.idleMs) };
  if ("load" in command) {
    const start = performance.now();
    await side.load(command.load);
    return { ms: performance.now() - start };
  }
  const { streams, tokens, steps, vocab } = command.work;
  side.reset();
  const batches = Array.from(
    { length: steps },
    (_, step) =>
      Array.from({ length: streams }, (_, s) => tokensAt(s, step * tokens, tokens, vocab)),
  );
  const argmax: number[] = [];
  if (command.profile) side.profile?.start();
  const start = performance.now();
  for (const [step, batch] of batches.entries()) {
    argmax.push(...await side.step(step * tokens, batch));
  }
  const ms = performance.now() - start;
  return {
    ms,
    argmax,
    ...(command.profile && side.profile ? { profile: side.profile.end() } : {}),
  };
}

async function measureIdle(ms: number): Promise<number> {
  const sleep = (time: number) => new Promise((resolve) => setTimeout(resolve, time));
  await sleep(1000);
  const before = process.cpuUsage(), start = performance.now();
  await sleep(ms);
  const { user, system } = process.cpuUsage(before);
  return 100 * (user + system) / 1000 / (performance.now() - start);
}

function readMemory(): Memory {
  const resident = Deno.memoryUsage().rss;
  if (Deno.build.os !== "linux") return { resident };
  const status = Deno.readTextFileSync("/proc/self/status");
  const bytes = (key: string) =>
    1024 * Number(new RegExp(`${key}:\\s*(\\d+) kB`).exec(status)?.[1]);
  return {
    resident,
    anonymous: bytes("RssAnon"),
    files: bytes("RssFile"),
    peak: bytes("VmHWM"),
  };
}

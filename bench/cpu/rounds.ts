/** Rounds of two sides in alternation, and what a line of speed says. */
import { round, summary } from "../_report.ts";
import type { SideName, SideProcess } from "./_process.ts";
import { cases } from "./cases.ts";

/** Whom we are compared with. */
export type Peer = Exclude<SideName, "decant">;

/** One value per side. */
export interface Versus<T> {
  readonly decant: T;
  readonly peer: T;
}

export const sides = ["decant", "peer"] as const;

/** Asks one side, then the other. */
export async function both<T>(ask: (side: keyof Versus<T>) => Promise<T>): Promise<Versus<T>> {
  return { decant: await ask("decant"), peer: await ask("peer") };
}

/** How often, with which vocabulary, and what to do after each case of a round. */
export interface RoundOptions {
  readonly rounds: number;
  readonly vocab: number;
  readonly done: () => void;
}

/** Milliseconds of every case, by round. A round runs each case on both sides, one after the other. */
export async function runRounds(
  running: Versus<SideProcess>,
  { rounds, vocab, done }: RoundOptions,
): Promise<Readonly<Record<string, Versus<number[]>>>> {
  const times = Object.fromEntries(
    Object.keys(cases).map((name) => [name, { decant: [] as number[], peer: [] as number[] }]),
  );
  for (let i = 0; i < rounds; i++) {
    const order = i % 2 === 0 ? sides : sides.toReversed();
    for (const [name, work] of Object.entries(cases)) {
      for (const side of order) {
        times[name]![side].push((await running[side].work({ ...work, vocab })).ms);
      }
      done();
    }
  }
  return times;
}

/** Speeds of one case and their ratios, taken within rounds. */
export function speedLine(
  peer: Peer,
  name: string,
  labels: Readonly<Record<string, unknown>>,
  ms: Versus<readonly number[]>,
): Record<string, unknown> {
  const { streams, tokens, steps } = cases[name]!;
  const side = (values: readonly number[]) => {
    const time = summary(values);
    return { ms: time, tokensPerSecond: round(1000 * streams * tokens * steps / time.median) };
  };
  const ratios = ms.decant.map((ours, i) => ms.peer[i]! / ours);
  return {
    name: lineName("cpu/speed", peer),
    case: name,
    ...labels,
    streams,
    tokens,
    steps,
    decant: side(ms.decant),
    [peer]: side(ms.peer),
    ratio: {
      median: summary(ratios).median,
      lowest: round(Math.min(...ratios)),
      highest: round(Math.max(...ratios)),
    },
  };
}

/** Names of lines about other peers than llama.cpp end with them. */
export function lineName(name: string, peer: Peer): string {
  return peer === "llama" ? name : `${name}-${peer}`;
}

/** How many of the most likely tokens are the same. */
export function agreement({ decant, peer }: Versus<readonly number[]>): string {
  return `${decant.filter((token, i) => token === peer[i]).length} of ${decant.length}`;
}

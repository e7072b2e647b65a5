/**
 * What strategies do to answers: the embedded models on held-out instances.
 *
 *     deno task bench:strategies                       # all parts; an hour or two
 *     deno task bench:strategies awrs cascade          # some of them
 *     deno task bench:strategies awrs --task sql --count 50 --seeds 1
 *     deno task bench:strategies --fresh               # nothing kept from a run that was cut short
 *
 * Each part writes `<out>/quality-<part>.json` and `.svg` and prints its tables. What a part has found
 * is kept beside them until it is complete, so that one that was cut short goes on where it was.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";
import { type LoadedModel, loadModel } from "../../runtime/load.ts";
import { openKept } from "./_kept.ts";
import { createProgress } from "./_progress.ts";
import { type Bench, INSTANCES, MAX_TOKENS, type Part } from "./_quality.ts";
import { qualityAwrs } from "./quality_awrs.ts";
import { qualityAwrsDistance } from "./quality_awrs_distance.ts";
import { qualityCascade } from "./quality_cascade.ts";
import { qualityCautious } from "./quality_cautious.ts";
import { qualityCollaboration } from "./quality_collaboration.ts";
import { qualityDiversity } from "./quality_diversity.ts";
import { qualitySpeculation } from "./quality_speculation.ts";
import { qualityTime } from "./quality_time.ts";

/** In the order they run: those that need a quiet machine last. */
export const parts: readonly Part[] = [
  qualityCautious,
  qualityDiversity,
  qualityCascade,
  qualityAwrsDistance,
  qualityAwrs,
  qualityCollaboration,
  qualitySpeculation,
  qualityTime,
];

/** What the command line asks for. */
export interface Options {
  readonly parts: readonly Part[];
  readonly model: string;
  /** Undefined: each part's own. */
  readonly count: number | undefined;
  readonly seeds: number | undefined;
  readonly tasks: readonly string[] | undefined;
  /** Folder of results. */
  readonly out: string;
  /** Whether kept results of a run that was cut short are thrown away. */
  readonly fresh: boolean;
}

/** @throws {RangeError} for unknown parts and tasks, and counts that are not whole numbers >= 1 */
export function optionsFrom(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      model: { type: "string", default: "decant-tiny" },
      count: { type: "string" },
      seeds: { type: "string" },
      task: { type: "string", multiple: true },
      out: { type: "string", default: "bench/results" },
      fresh: { type: "boolean", default: false },
    },
  });
  requireKnown("part", positionals, parts.map(({ name }) => name));
  requireKnown("task", values.task ?? [], EVALUATION.map(({ name }) => name));
  return {
    parts: parts.filter(({ name }) => positionals.length === 0 || positionals.includes(name)),
    model: values.model,
    count: wholeNumber("--count", values.count),
    seeds: wholeNumber("--seeds", values.seeds),
    tasks: values.task,
    out: values.out,
    fresh: values.fresh,
  };
}

function requireKnown(kind: string, names: readonly string[], known: readonly string[]): void {
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new RangeError(`No ${kind} ${unknown}: there are ${known}`);
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new RangeError(`${name} is a whole number >= 1, got ${text}`);
}

/** The embedded model of that name, in this thread. */
function openEmbedded(id: string): Promise<LoadedModel> {
  const folder = fileURLToPath(new URL(`../../models/${id}`, import.meta.url));
  return loadModel(folder, {
    id,
    backend: "auto",
    thread: "own",
    kvBytes: 256 << 20,
    created: 0,
    ownedBy: "decant",
  });
}

/** Runs one part and writes its files. */
async function measure(
  part: Part,
  { large, small }: Pick<Bench, "large" | "small">,
  options: Options,
): Promise<void> {
  const { count = part.count, seeds = part.seeds, out } = options;
  const names = options.tasks ?? part.tasks;
  const tasks = EVALUATION.filter(({ name }) => names?.includes(name) ?? true);
  const path = `${out}/quality-${part.name}`;
  const about = {
    deno: Deno.version.deno,
    model: large.info.id,
    fingerprint: large.info.fingerprint,
    draft: small.info.fingerprint,
    "served_by": large.info.servedBy,
    instances: INSTANCES,
    "instances_per_task": count,
    seeds,
    "max_tokens": MAX_TOKENS,
  };
  const partial = `${path}.partial.jsonl`;
  const kept = await openKept(partial, options.fresh ? `${Date.now()}` : JSON.stringify(about));
  say(`\n${part.name}: ${part.about}\n`);
  if (kept.found > 0) say(`${kept.found} results of a run that was cut short are used\n`);
  const { once } = kept;
  const progress = createProgress(part.name);
  const bench = { large, small, count, seeds, tasks, once, progress };
  const { result, svg, table } = await part.measure(bench);
  const date = new Date().toISOString().slice(0, 10);
  const text = JSON.stringify({ date, ...about, ...result }, rounded, 2);
  await Deno.writeTextFile(`${path}.json`, text + "\n");
  await Deno.writeTextFile(`${path}.svg`, svg);
  await kept.done();
  say(`\n${table}`);
}

/** Six significant digits: more would be noise. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === "number" ? Number(value.toPrecision(6)) : value;
}

function say(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text));
}

if (import.meta.main) {
  const options = optionsFrom(Deno.args);
  await Deno.mkdir(options.out, { recursive: true });
  await using large = await openEmbedded(options.model);
  await using small = await openEmbedded(`${options.model}-draft`);
  for (const part of options.parts) await measure(part, { large, small }, options);
}

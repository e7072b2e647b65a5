/**
 * A stream much longer than the context at constant memory: perplexity and pages by stretches.
 *
 *     deno run -A bench/kv/stream.ts --stories FILE [--tokens 200000] [--out bench/results/kv-stream.json]
 */
import { parseArgs } from "node:util";
import type { KvChoice } from "../../runtime/mod.ts";
import { createProgress } from "../_progress.ts";
import { openModel, scopeOf } from "./_model.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    tokens: { type: "string", default: "200000" },
    stories: { type: "string" },
    backend: { type: "string", default: "wasm" },
    out: { type: "string", default: "bench/results/kv-stream.json" },
  },
});
if (values.stories === undefined) throw new RangeError("--stories names a text file");

/** Tokens per step: one consultation each. */
const STEP = 16;
const STRETCHES = 10;
/** Both hold at most 512 tokens; a full cache of the stream would take 12,500 pages. */
const CHOICES: readonly KvChoice[] = [
  { name: "streaming", params: { positions: "cache", sinks: 4, window: 492, interval: STEP } },
  {
    name: "sepllm",
    params: {
      mode: "stream",
      sinks: 4,
      separators: 64,
      window: 256,
      capacity: 512,
      interval: STEP,
    },
  },
];

const total = Number(values.tokens);
const results = [];
const progress = createProgress(STRETCHES * CHOICES.length);
for (const choice of CHOICES) results.push(await stream(choice));
progress.end();
await Deno.writeTextFile(
  values.out,
  JSON.stringify(
    { date: new Date().toISOString().slice(0, 10), model: "decant-tiny", results },
    undefined,
    2,
  ) + "\n",
);

async function stream(choice: KvChoice) {
  await using engine = await openModel(values.backend, 80);
  const stories = (await Deno.readTextFile(values.stories!)).split(/\n\n+/);
  const once = stories.flatMap((story) => [...engine.vocab.encode(story), 0]);
  const token = (i: number) => once[i % once.length]!;
  const scope = scopeOf(choice);
  using session = engine.session([0], { scope });
  const stretches = [];
  let loss = 0, mostPages = 0;
  for (let at = 0; at < total; at += STEP) {
    session.append(Array.from({ length: STEP }, (_, i) => token(at + i)));
    for (const logprob of await session.score({ last: STEP })) loss -= logprob;
    const { pages } = engine.stats();
    mostPages = Math.max(mostPages, pages.total - pages.free);
    const isEnd = Math.floor((at + STEP) * STRETCHES / total) > Math.floor(at * STRETCHES / total);
    if (!isEnd) continue;
    const { tokensKept, bytes } = scope.meter.kv!;
    const tokens = total / STRETCHES;
    stretches.push({
      until: at + STEP,
      perplexity: Number(Math.exp(loss / tokens).toFixed(3)),
      tokens_kept: Math.round(tokensKept),
      bytes,
    });
    loss = 0;
    progress.advance(1, choice.name);
  }
  const { bytesPeak, bytesFull } = scope.meter.kv!;
  return {
    ...choice,
    tokens: total,
    bytes_peak: bytesPeak,
    bytes_full: bytesFull,
    most_pages: mostPages,
    stretches,
  };
}

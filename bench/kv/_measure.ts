/** One point of a figure: a policy at a share of kept tokens, on the documents of one seed. */
import type { Engine } from "../../runtime/engine/engine.ts";
import { separatorsOf } from "../../runtime/kv/separators.ts";
import type { KvUsage } from "../../runtime/mod.ts";
import type { Entry } from "./_grid.ts";
import { complete, scopeOf } from "./_model.ts";
import { type Document, documents, type KvTask } from "./_tasks.ts";

/** What was found. */
export interface Point {
  readonly task: string;
  readonly policy: string;
  readonly family: string;
  readonly ratio: number;
  readonly seed: number;
  readonly right: number;
  readonly asked: number;
  /** Tokens kept after the document, of all, on average. */
  readonly kept: number;
  /** Bytes of the cache after the document as a share of the full cache's. */
  readonly bytes: number;
  /** Only of `story`: sum of losses in nats, and tokens. */
  readonly loss?: number;
  readonly losses?: readonly number[];
}

const parallel = 8;

/** Answers to the questions about `count` documents. */
export async function measureTask(
  engine: Engine,
  task: KvTask,
  entry: Entry,
  ratio: number,
  seed: number,
  count: number,
): Promise<Point> {
  const all = documents(task, count, seed, engine.vocab);
  let right = 0, asked = 0;
  const held: { kept: number; bytes: number }[] = [];
  await inParallel(all, async (document, i) => {
    const { answers, usage } = await answer(engine, document, entry, ratio, seed * 1000 + i);
    asked += answers.length;
    right += answers.filter(Boolean).length;
    held.push(shareOf(usage, document.tokens.length));
  });
  return { ...pointOf(task.name, entry, ratio, seed, held), right, asked };
}

async function answer(
  engine: Engine,
  { tokens, questions }: Document,
  entry: Entry,
  ratio: number,
  seed: number,
) {
  const scope = scopeOf(entry.choice(ratio, shapeOf(engine, tokens), seed));
  using session = engine.session(tokens, { scope });
  await session.topk(1);
  const usage = scope.meter.kv!;
  const answers = await Promise.all(questions.map(async (question) => {
    using fork = session.fork();
    fork.append(question.tokens);
    return (await complete(engine, fork, 16)).trim() === question.answer;
  }));
  return { answers, usage };
}

/** Losses of the last `scored` tokens of each text, whose first part is compressed as a prompt. */
export async function measureText(
  engine: Engine,
  texts: readonly (readonly number[])[],
  scored: number,
  entry: Entry,
  ratio: number,
): Promise<Point> {
  const held: { kept: number; bytes: number }[] = [], losses: number[] = [];
  await inParallel(texts, async (tokens, i) => {
    const prompt = tokens.slice(0, tokens.length - scored);
    const scope = scopeOf(entry.choice(ratio, shapeOf(engine, prompt), i));
    using session = engine.session(prompt, { scope });
    await session.topk(1);
    held.push(shareOf(scope.meter.kv!, prompt.length));
    session.append(tokens.slice(prompt.length));
    const scores = await session.score({ last: scored });
    losses.push(-scores.reduce((a, b) => a + b, 0) / scored);
  });
  const loss = losses.reduce((a, b) => a + b, 0);
  return {
    ...pointOf("story", entry, ratio, 0, held),
    right: 0,
    asked: losses.length,
    loss: loss / losses.length,
    losses: losses.map((value) => Number(value.toFixed(5))),
  };
}

function shapeOf({ vocab }: Engine, tokens: readonly number[]) {
  const marks = known ??= separatorsOf(vocab);
  return { tokens: tokens.length, separators: tokens.filter((token) => marks.has(token)).length };
}
let known: ReadonlySet<number> | undefined;

function shareOf({ tokensKept, bytes, bytesFull }: KvUsage, tokens: number) {
  return { kept: tokensKept / tokens, bytes: bytes / bytesFull };
}

function pointOf(
  task: string,
  { label, family }: Entry,
  ratio: number,
  seed: number,
  held: readonly { kept: number; bytes: number }[],
) {
  const mean = (pick: (one: { kept: number; bytes: number }) => number) =>
    Number((held.reduce((sum, one) => sum + pick(one), 0) / held.length).toFixed(4));
  return {
    task,
    policy: label,
    family,
    ratio,
    seed,
    kept: mean(({ kept }) => kept),
    bytes: mean(({ bytes }) => bytes),
  };
}

async function inParallel<T>(
  items: readonly T[],
  run: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < items.length; i = next++) await run(items[i]!, i);
  };
  await Promise.all(Array.from({ length: parallel }, worker));
}

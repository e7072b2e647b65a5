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
  /** Of tasks with a grid: [right, asked] by cell. */
  readonly cells?: Readonly<Record<string, readonly [right: number, asked: number]>>;
  /** Only of `story`: sum of losses in nats, and tokens. */
  readonly loss?: number;
  readonly losses?: readonly number[];
}

const parallel = 16;

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
  const cells: Record<string, [right: number, asked: number]> = {};
  const held: { kept: number; bytes: number }[] = [];
  await inParallel(all, async (document, i) => {
    const own = { ratio, seed: seed * 1000 + i, most: task.most ?? 16 };
    const { answers, usage } = await answer(engine, document, entry, own);
    const cell = cells[document.cell] ??= [0, 0];
    cell[0] += answers.filter(Boolean).length;
    cell[1] += answers.length;
    held.push(shareOf(usage, document.tokens.length));
  });
  const sum = (i: 0 | 1) => Object.values(cells).reduce((sum, cell) => sum + cell[i], 0);
  return {
    ...pointOf(task.name, entry, ratio, seed, held),
    right: sum(0),
    asked: sum(1),
    ...task.generators.length > 1 ? { cells } : {},
  };
}

async function answer(
  engine: Engine,
  { tokens, questions }: Document,
  entry: Entry,
  { ratio, seed, most }: { readonly ratio: number; readonly seed: number; readonly most: number },
) {
  const scope = scopeOf(entry.choice(ratio, shapeOf(engine, tokens), seed));
  using session = engine.session(tokens, { scope });
  await session.topk(1);
  const usage = scope.meter.kv!;
  const answers = await Promise.all(questions.map(async (question) => {
    using fork = session.fork();
    fork.append(question.tokens);
    return (await complete(engine, fork, most)).trim() === question.answer;
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

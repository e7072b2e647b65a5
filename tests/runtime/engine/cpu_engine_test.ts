/**
 * The engine on each backend with a real model of 260 K parameters: the laws of every model, and
 * the same greedy tokens as an independent implementation, however the work is cut up.
 */
import { assert, assertEquals } from "@std/assert";
import { createEngine, type Engine, type EngineLimits } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { greedySampling, type Session, type TokenId } from "../../../runtime/mod.ts";
import { backends } from "../../_backends.ts";
import { hasSharedData, sharedData, testWithSharedData } from "../../_shared_data.ts";
import { testLanguageModel } from "../../conformance/language_model.ts";
import { readLlama2c } from "../../fakes/llama2c.ts";
import { loadLlama2cTokenizer } from "../../fakes/llama2c_tokenizer.ts";

interface PoolOptions {
  readonly pages?: number;
  readonly pageSize?: number;
  readonly limits?: EngineLimits;
}

type CreateBackend = (typeof backends)[number]["create"];

function storyEngine(
  create: CreateBackend,
  { pages = 256, pageSize = 16, limits = {} }: PoolOptions = {},
): Engine {
  const read = (name: string) => Deno.readFileSync(sharedData(`models/stories260K/${name}`));
  const { config, weights } = readLlama2c(read("stories260K.bin"));
  const vocab = loadLlama2cTokenizer(read("tok512.bin"));
  const backend = create();
  const executor = createLocalExecutor(loadDecoder(config, weights, backend), backend, {
    pages,
    pageSize,
    contextLength: config.contextLength,
  });
  return createEngine({ id: "stories260K", vocab, executor, limits });
}

function openModel(create: CreateBackend, options: PoolOptions) {
  const model = storyEngine(create, options);
  return {
    model,
    openSessions: () => model.stats().openSessions,
    async close() {
      model.checkPages();
      await model[Symbol.asyncDispose]();
    },
  };
}

const ignore = hasSharedData ? undefined : "shared test data not present";
for (const { name, create, isSlow } of backends) {
  testLanguageModel(`${name} engine`, () => openModel(create, {}), { ignore });
  if (isSlow) continue;
  const small = { pages: 150, pageSize: 4, limits: { stepTokens: 16, chunkTokens: 7 } };
  testLanguageModel(
    `${name} engine with small steps and pages`,
    () => openModel(create, small),
    { ignore },
  );
}

interface Golden {
  readonly prompt: TokenId[];
  readonly completion: TokenId[];
}

async function goldens(): Promise<readonly Golden[]> {
  const text = await Deno.readTextFile(sharedData("models/golden-greedy.json"));
  const cases: Record<string, TokenId[]>[] = JSON.parse(text).models["stories260K/stories260K.bin"];
  return cases.map((one) => ({ prompt: one["prompt_ids"]!, completion: one["greedy_ids"]! }));
}

async function greedyTokens(session: Session, count: number): Promise<TokenId[]> {
  const tokens: TokenId[] = [];
  const options = { sampling: greedySampling, maxTokens: count, ignoreStop: true };
  for await (const { token } of session.generate(options)) tokens.push(token);
  return tokens;
}

/** How a golden completion is decoded. */
type Way = (engine: Engine, golden: Golden) => Promise<TokenId[]>;

const plain: Way = async (engine, { prompt, completion }) => {
  using session = engine.session(prompt);
  return await greedyTokens(session, completion.length);
};

/** A fork of a fork takes over every five tokens. */
const forked: Way = async (engine, { prompt, completion }) => {
  let session = engine.session(prompt);
  const tokens: TokenId[] = [];
  while (tokens.length < completion.length) {
    const fork = session.fork();
    if (tokens.length % 2 === 0) session[Symbol.dispose]();
    session = fork;
    tokens.push(...await greedyTokens(session, Math.min(5, completion.length - tokens.length)));
  }
  session[Symbol.dispose]();
  return tokens;
};

/** Proposals of which the first is right and the rest is not, checked in one pass. */
const speculated: Way = async (engine, { prompt, completion }) => {
  using session = engine.session(prompt, { rollback: 5 });
  const tokens: TokenId[] = [];
  while (tokens.length < completion.length) {
    const base = session.length;
    session.append([completion[tokens.length]!, 300, 301, 302]);
    const [before, after] = await session.topk(1, { last: 5 });
    tokens.push(before!.candidates[0]!.token);
    session.truncate(base + 1);
    if (tokens.length === completion.length) break;
    tokens.push(after!.candidates[0]!.token);
    session.append([tokens.at(-1)!]);
  }
  return tokens;
};

/** The same, with each proposal a branch of a tree. */
const branched: Way = async (engine, { prompt, completion }) => {
  using session = engine.session(prompt.slice(0, -1));
  const tokens: TokenId[] = [];
  let next = prompt.at(-1)!;
  while (tokens.length < completion.length) {
    const rows = await session.tree({ tokens: [300, next, 301, 302], parents: [-1, -1, 1, 0] });
    session.append([next]);
    next = rows[1]!.indexOf(Math.max(...rows[1]!));
    tokens.push(next);
  }
  return tokens;
};

const ways: readonly (readonly [string, Way, PoolOptions])[] = [
  ["plain", plain, {}],
  ["in chunks of two tokens", plain, { limits: { stepTokens: 3, chunkTokens: 2 } }],
  ["with pages of one slot", plain, { pageSize: 1, pages: 600 }],
  ["through forks", forked, {}],
  ["through forks, without prefix cache", forked, { limits: { cachedPages: 0 } }],
  ["with wrong proposals", speculated, { pageSize: 4 }],
  ["with trees", branched, { pageSize: 4 }],
];
for (const { name, create, isSlow = false } of backends) registerGoldens(name, create, isSlow);

function registerGoldens(name: string, create: CreateBackend, isSlow: boolean): void {
  const casesOf = async () => (await goldens()).slice(0, isSlow ? 2 : undefined);
  for (const [way, decode, options] of ways) {
    testWithSharedData(`${name} engine decodes the golden completions ${way}`, async () => {
      await using engine = storyEngine(create, options);
      for (const golden of await casesOf()) {
        assertEquals(await decode(engine, golden), golden.completion);
      }
      engine.checkPages();
    });
  }

  testWithSharedData(`${name} engine decodes the golden completions all at once`, async () => {
    await using engine = storyEngine(create, { limits: { stepTokens: 20 } });
    const cases = await casesOf();
    const all = [...cases, ...cases].flatMap((golden) =>
      [plain, forked, branched].map((way) => way(engine, golden))
    );
    const expected = [...cases, ...cases].flatMap(({ completion: ids }) => [ids, ids, ids]);
    assertEquals(await Promise.all(all), expected);
  });

  if (isSlow) return;
  testWithSharedData(
    `${name} engine decodes the golden completions in a pool too small for all`,
    async () => {
      await using engine = storyEngine(create, { pages: 20, pageSize: 8 });
      const cases = await goldens();
      const longest = Math.max(...cases.map((one) => one.prompt.length + one.completion.length));
      assert(longest < 20 * 8 && longest * cases.length > 3 * 20 * 8, "the pool is tight");
      const tokens = await Promise.all(cases.map((golden) => plain(engine, golden)));
      assertEquals(tokens, cases.map(({ completion }) => completion));
      assert(engine.stats().preemptions > 0);
    },
  );
}

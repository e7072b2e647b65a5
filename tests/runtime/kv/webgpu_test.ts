/** Every KV policy on WebGPU keeps and reads what it does on the reference. */
import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createEngine, type Engine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { listPolicies } from "../../../runtime/kv/policies/mod.ts";
import type { KvPolicy } from "../../../runtime/kv/policy.ts";
import {
  createRng,
  greedySampling,
  type KvChoice,
  seedFrom,
  type TokenId,
} from "../../../runtime/mod.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../_webgpu.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeAdapters } from "../../fakes/kv_adapters.ts";
import { fakeVocab } from "../../fakes/mod.ts";
import { testScope } from "../engine/_fixtures.ts";

/** Heads whose vectors need no padding, so that bytes are those of the reference. */
const config = { ...tinyConfig, headDim: 8 };

function open(backend: Backend): Engine {
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const loaded = fakeAdapters(config, backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 120,
    pageSize: 8,
    contextLength: 64,
    adapters: loaded.flatMap(({ adapter }) => adapter ?? []),
    adapterData: Object.fromEntries(loaded.map(({ name, data }) => [name, data])),
  });
  const pieces = Array.from({ length: tinyConfig.vocab }, (_, i) => String.fromCharCode(97 + i));
  const vocab = fakeVocab({ pieces });
  return createEngine({ id: "tiny", vocab, executor, separators: new Set([3, 7, 11]) });
}

/** Each token once: equal ones have keys of equal length, and rounding would choose between them. */
const text = Array.from({ length: 46 }, (_, i) => (7 * i + 3) % config.vocab);

/** Logits of given tokens, one by one after a prompt. */
async function decode(engine: Engine, kv: KvChoice) {
  const scope = testScope({ kv });
  using session = engine.session(text.slice(0, 36), { scope });
  const rows = [...await session.logits()];
  for (const token of text.slice(36)) {
    session.append([token]);
    rows.push(...await session.logits());
  }
  return { rows, usage: scope.meter.kv! };
}

/** Seeded text. */
async function sample(engine: Engine, kv: KvChoice): Promise<TokenId[]> {
  using session = engine.session(text.slice(0, 32), { scope: testScope({ kv }) });
  const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(3) };
  const tokens: TokenId[] = [];
  for await (const { token } of session.generate({ sampling, maxTokens: 12, ignoreStop: true })) {
    tokens.push(token);
  }
  return tokens;
}

/** Logits under the same forks, truncations and neighbours in any engine. */
async function walk(engine: Engine, kv: KvChoice): Promise<Float32Array[]> {
  const rng = createRng(seedFrom(11)), int = (below: number) => Math.floor(rng.next() * below);
  // Token i of a sequence is text[first + i]; forks go on with another first, so none comes twice.
  const start = (first: number) => ({
    first,
    session: engine.session(text.slice(first, 12 + int(9)), {
      rollback: 3,
      scope: testScope({ kv }),
    }),
  });
  const live = [start(0), start(4)];
  const rows: Float32Array[] = [];
  for (let turn = 0; turn < 12; turn++) {
    const { session, first } = live[turn % live.length]!, action = int(4);
    if (action === 0 && live.length < 4) live.push({ first: first + 1, session: session.fork() });
    if (action === 1) session.truncate(Math.max(session.committed, session.length - int(3)));
    const next = first + session.length;
    session.append(text.slice(next, next + 1 + int(6)));
    const asked = live.filter(() => int(3) > 0);
    const answers = await Promise.all(asked.map(({ session }) => session.logits({ last: 2 })));
    rows.push(...answers.flat());
    engine.checkPages();
  }
  for (const { session } of live) session[Symbol.dispose]();
  return rows;
}

/** Small enough that something happens in sequences of 40 tokens; a policy takes those it knows. */
const small: Readonly<Record<string, unknown>> = {
  sinks: 2,
  window: 4,
  block: 2,
  budget: 12,
  interval: 4,
  residual: 3,
  threshold: 0,
  history: 4,
  "calibrate_every": 3,
  "dense_layers": 0,
};
const variants = [{}, { format: "int8" }, { format: "int4" }, { positions: "cache" }];

/** The parameters of each run: small ones, and the other values of what the policy can vary. */
function paramsOf({ params }: KvPolicy): Readonly<Record<string, unknown>>[] {
  const accepts = (value: unknown) => {
    try {
      params.parse(value);
      return true;
    } catch {
      return false;
    }
  };
  let own: Readonly<Record<string, unknown>> = {};
  for (const [name, value] of Object.entries(small)) {
    // Budgets are checked against what stands beside them, so all keys come in together.
    const isKnown = accepts({ [name]: value }) || accepts({ ...small, [name]: value });
    if (isKnown || accepts({ ...own, [name]: value })) own = { ...own, [name]: value };
  }
  return variants.map((variant) => ({ ...own, ...variant })).filter(accepts);
}

const distance = (one: readonly Float32Array[], two: readonly Float32Array[]) =>
  Math.max(
    ...one.map((row, i) =>
      row.reduce((most, value, j) => Math.max(most, Math.abs(value - two[i]![j]!)), 0)
    ),
  );

for (const policy of listPolicies()) {
  testWithGpu(`WebGPU: ${policy.name} gives the reference's logits, bytes and text`, async () => {
    await using gpu = open(createTestGpuBackend());
    await using cpu = open(createCpuBackend());
    const full = await decode(cpu, { name: "full", params: {} });
    for (const params of paramsOf(policy)) {
      const choice = { name: policy.name, params };
      const [one, two] = [await decode(gpu, choice), await decode(cpu, choice)];
      const label = `${policy.name} ${JSON.stringify(params)}`;
      const error = distance(one.rows, two.rows);
      assert(error < 1e-4, `${label}: ${error}`);
      assertEquals(one.usage, two.usage, label);
      if (!policy.lossless) assert(distance(full.rows, two.rows) > 1e-4, `${label} did nothing`);
      assertEquals(await sample(gpu, choice), await sample(cpu, choice), label);
      if (params.format === "int8" || params.positions !== undefined) continue;
      const moved = distance(await walk(gpu, choice), await walk(cpu, choice));
      assert(moved < 1e-4, `${label}, with forks and truncations: ${moved}`);
    }
    gpu.checkPages();
  });
}

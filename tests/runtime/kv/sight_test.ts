/**
 * Policies with a `lifetime`: every token sees what the rule says, however seldom memory is freed,
 * however the work is cut and whatever is taken back.
 */
import { assert, assertEquals } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { fullKvSupport } from "../../../runtime/backend/backend.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import { createEngine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import type { KvChoice } from "../../../runtime/mod.ts";
import { getPolicy } from "../../../runtime/kv/policies/mod.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { fakeLogits } from "../../fakes/fake_executor.ts";
import { fakeVocab, letterVocab } from "../../fakes/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeEngine, letters, testScope } from "../engine/_fixtures.ts";

const separators = new Set([0, 3]);
const promptLength = 21, length = 60;

interface Rule {
  readonly name: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Whether row m sees token j <= m. */
  readonly sees: (m: number, j: number, token: number) => boolean;
}

const rules: readonly Rule[] = [
  { name: "streaming", params: { sinks: 2, window: 6 }, sees: (m, j) => j < 2 || m - j <= 5 },
  { name: "streaming", params: { sinks: 0, window: 1 }, sees: (m, j) => m === j },
  {
    name: "sepllm",
    params: { sinks: 1, window: 4 },
    sees: (m, j, token) => j < 1 || separators.has(token) || m - j <= 3,
  },
  {
    name: "sepllm",
    params: { sinks: 1, window: 4, prefill: "dense" },
    sees: (m, j, token) => m < promptLength || j < 1 || separators.has(token) || m - j <= 3,
  },
];

const supports = { sight: fullKvSupport, "read lists": { ...fullKvSupport, sight: false } };

for (const { name, params, sees } of rules) {
  for (const [how, support] of Object.entries(supports)) {
    const label = `${name} ${JSON.stringify(params)} by ${how}`;
    Deno.test(`${label}: all tokens see by the rule, whatever interval, rollback and chunks`, async () => {
      const tokens = letters(length), vocab = letterVocab().size;
      const wanted = new Map<number, Float32Array>();
      for (let at = promptLength; at <= length; at += 3) {
        const masked = fakeLogits(tokens.slice(0, at), { vocab }, (m, j) => sees(m, j, tokens[j]!));
        wanted.set(at, masked);
      }
      for (const interval of [1, 4, 16, 64]) {
        for (const rollback of [0, 5]) {
          for (const limits of [{}, { stepTokens: 7, chunkTokens: 3 }]) {
            const kv: KvChoice = { name, params: { ...params, interval } };
            await using setup = fakeEngine({ support, pageSize: 4, pages: 200 }, {
              findPolicy: getPolicy,
              separators,
              limits,
            });
            using session = setup.engine.session(tokens.slice(0, promptLength), {
              rollback,
              scope: testScope({ kv }),
            });
            for (let at = promptLength; at <= length; at += 3) {
              session.append(tokens.slice(session.length, at));
              // A draft that is taken back.
              const draft = session.length;
              if (rollback > 0) {
                session.append(letters(4, at));
                await session.logits({ last: 3 });
                session.truncate(draft);
              }
              const [row] = await session.logits();
              assertEquals(row, wanted.get(at), `place ${at}, interval ${interval}`);
            }
          }
        }
      }
    });
  }
}

for (const [name, create] of Object.entries({ CPU: createCpuBackend, WASM: createWasmBackend })) {
  Deno.test(`${name}: logits of rules are the same to the bit whatever the interval, and memory is what is said`, async () => {
    for (const { name, params } of rules) {
      const rows: Float32Array[][] = [], kept: number[] = [];
      for (const interval of [1, 8]) {
        using backend = create();
        const decoder = loadDecoder(tinyConfig, hashedWeights(llamaShapes(tinyConfig)), backend);
        const contextLength = 64;
        const executor = createLocalExecutor(decoder, backend, {
          pages: 64,
          pageSize: 4,
          contextLength,
        });
        const pieces = Array.from(
          { length: tinyConfig.vocab },
          (_, i) => String.fromCharCode(97 + i),
        );
        const vocab = fakeVocab({ pieces });
        await using engine = createEngine({
          id: "m",
          vocab,
          executor,
          findPolicy: getPolicy,
          separators,
        });
        const scope = testScope({ kv: { name, params: { ...params, interval } } });
        const tokens = Array.from({ length: 50 }, (_, i) => (i * i + 7 * i) % tinyConfig.vocab);
        using session = engine.session(tokens.slice(0, promptLength), { scope });
        const own = [...await session.logits()];
        for (const token of tokens.slice(promptLength)) {
          session.append([token]);
          own.push(...await session.logits());
        }
        rows.push(own);
        kept.push(scope.meter.kv!.tokensKept);
      }
      assertEquals(rows[1], rows[0], JSON.stringify(params));
      assert(kept[1]! >= kept[0]! && kept[1]! < kept[0]! + 8, `${kept}`);
    }
  });
}

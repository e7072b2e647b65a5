/** The probe lets a right backend through and finds one that errs in a single kind of kernel. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { AttentionRow, Backend, Ops } from "../../../../runtime/backend/backend.ts";
import type { ReadRule } from "../../../../runtime/kv/policy.ts";
import { probe } from "../../../../runtime/backend/webgpu/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

/** The backend, with some operations or members replaced. */
function spoiled(
  backend: Backend,
  change: (ops: Ops) => Partial<Ops>,
  members: Partial<Backend> = {},
): Backend {
  return new Proxy(backend, {
    get(target, key) {
      if (key in members) return members[key as keyof Backend];
      if (key === "record") {
        return <T>(build: (ops: Ops) => T) =>
          target.record((ops) =>
            build(
              new Proxy(ops, {
                get: (inner, name) =>
                  change(inner)[name as keyof Ops] ?? Reflect.get(inner, name, inner),
              }),
            )
          );
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** The row, reading one slot (or page) less than it should by one kind of score. */
function oneLess(score: ReadRule["score"]) {
  return (row: AttentionRow): AttentionRow => {
    const { rule } = row;
    return rule?.score === score ? { ...row, rule: { ...rule, budget: rule.budget - 1 } } : row;
  };
}

testWithGpu("probe() names what a device gets wrong", async () => {
  using backend = createTestGpuBackend();
  assertEquals(await probe(backend), undefined);
  assertEquals(await probe(spoiled(backend, () => ({}))), undefined);
  const cases: readonly [RegExp, Backend][] = [
    [
      /^a layer in f32 is off by/,
      spoiled(backend, (ops) => ({ rmsNorm: (x, gain) => ops.rmsNorm(x, gain, 0.1) })),
    ],
    // Only products of many rows are wrong.
    [
      /^a layer in f32 is off by/,
      spoiled(backend, (ops) => ({
        linear: (x, weight, bias) =>
          x.shape[0]! > 32 ? ops.linear(x, weight) : ops.linear(x, weight, bias),
      })),
    ],
    // Only products of one row are wrong.
    [
      /^a layer in f32 is off by/,
      spoiled(backend, (ops) => ({
        linear: (x, weight, bias) =>
          x.shape[0] === 1 ? ops.linear(x, weight) : ops.linear(x, weight, bias),
      })),
    ],
    // Attention of prompts, then that of single tokens.
    ...[true, false].map((isMany): [RegExp, Backend] => [
      /^attention is off by/,
      spoiled(backend, (ops) => ({
        attention: (q, pool, layer, rows, options) => {
          const scale = rows[0]!.length > 1 === isMany ? 0.3 : options.scale;
          return ops.attention(q, pool, layer, rows, { ...options, scale });
        },
      })),
    ]),
    ...(["oracle", "bounds", "adapter"] as const).map((score): [RegExp, Backend] => [
      new RegExp(`^reading f32 by ${score} is off by`),
      spoiled(backend, (ops) => ({
        attention: (q, pool, layer, rows, options) =>
          ops.attention(q, pool, layer, rows.map(oneLess(score)), options),
      })),
    ]),
    ...(["int8", "int4", "kivi4"] as const).flatMap((format): [RegExp, Backend][] => [
      // One of the vectors is another one's.
      [
        new RegExp(`^attention over ${format} is off by`),
        spoiled(backend, (ops) => ({
          kvEncode: (pool, from, to, place) => {
            const list = from.slice();
            if (place.format === format) list[9] = list[8]!;
            ops.kvEncode!(pool, list, to, place);
          },
        })),
      ],
      [
        new RegExp(`^reading ${format} by oracle is off by`),
        spoiled(backend, (ops) => ({
          attention: (q, pool, layer, rows, options) =>
            ops.attention(
              q,
              pool,
              layer,
              rows.map((row) => row.encoded?.format === format ? oneLess("oracle")(row) : row),
              options,
            ),
        })),
      ],
    ]),
    [
      /^a draw is token \d+, not \d+$/,
      spoiled(backend, () => ({}), {
        drawn: async (result, draws) =>
          (await backend.drawn!(result, draws)).map((one, i) =>
            one && i === 4 ? { ...one, token: one.token ^ 1 } : one
          ),
      }),
    ],
    [
      /^only \d+ of \d+ draws$/,
      spoiled(backend, () => ({}), {
        drawn: (_, draws) => Promise.resolve(draws.map(() => undefined)),
      }),
    ],
  ];
  for (const [expected, wrong] of cases) {
    const said = await probe(wrong);
    assert(said !== undefined, `nobody noticed what ${expected} should tell`);
    assertMatch(said, expected);
  }
});

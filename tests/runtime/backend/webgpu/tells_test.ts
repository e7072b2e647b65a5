/** What the device reads off rows of logits is what the host reads off them, within the rounding of f32. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { LogitsAsk } from "../../../../runtime/backend/backend.ts";
import { rowStats, topK } from "../../../../runtime/sampling.ts";
import { randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

const kinds: Readonly<Record<string, (u: number, i: number) => number>> = {
  usual: (u) => 2 * Math.log((u + 1e-6) / (1 - u + 1e-6)),
  flat: (u) => u / 100,
  peaked: (u, i) => i % 37 === 5 ? 30 : 4 * u - 90,
  tied: (u) => Math.floor(4 * u),
  "partly impossible": (u) => u < 0.5 ? -Infinity : 8 * u,
};

for (const [kind, value] of Object.entries(kinds)) {
  testWithGpu(
    `told of rows that are ${kind}: normaliser, entropy, best tokens, a logit`,
    async () => {
      using backend = createTestGpuBackend();
      for (
        const [vocab, stride] of [[17, 20], [1003, 1004], [4100, 4104], [70_000, 70_000]] as const
      ) {
        const rng = randomOf(vocab), rows = 3;
        const logits = Float32Array.from(
          { length: rows * stride },
          (_, i) => i % stride < vocab ? value(rng.next(), i) : 1e9,
        );
        using x = backend.tensor("x", [rows, stride], "f32", logits);
        const asks: LogitsAsk[] = [
          { row: 2, top: 0 },
          { row: 0, top: 1, target: vocab - 1 },
          { row: 1, top: Math.min(vocab, 64) },
          { row: 2, top: 5, target: 3 },
        ];
        const told = backend.record((ops) => ops.tell!(x, vocab, asks));
        const found = await backend.told!(told, asks);
        for (const [i, { row, top, target }] of asks.entries()) {
          const own = logits.subarray(row * stride, row * stride + vocab);
          if (found[i] === undefined) { // too few tokens are possible
            assertEquals(own.filter((logit) => logit > -Infinity).length < top, true);
            continue;
          }
          const expected = rowStats(own), { candidates } = topK(own, top);
          assertEquals(found[i].best, expected.best);
          assertAlmostEquals(found[i].logNormalizer, expected.logNormalizer, 1e-5);
          assertAlmostEquals(found[i].entropy, expected.entropy, 1e-5);
          assertEquals(
            found[i].top.map(({ token }) => token),
            candidates.map(({ token }) => token),
          );
          found[i].top.forEach(({ logprob }, j) =>
            assertAlmostEquals(logprob, candidates[j]!.logprob, 1e-5)
          );
          assertEquals(found[i].target, target === undefined ? undefined : own[target]);
        }
      }
    },
  );
}

testWithGpu(
  "told of rows without a distribution: nothing; more than 64 tokens are the host's",
  async () => {
    using backend = createTestGpuBackend();
    const rows = [NaN, Infinity, -Infinity].map((odd) =>
      Array.from({ length: 20 }, (_, i) => odd === -Infinity || i === 7 ? odd : i)
    );
    using x = backend.tensor("x", [3, 20], "f32", Float32Array.from(rows.flat()));
    const asks = rows.map((_, row) => ({ row, top: 2 }));
    const told = backend.record((ops) => ops.tell!(x, 20, asks));
    assertEquals([...await backend.told!(told, asks)], [undefined, undefined, undefined]);
    assertEquals([64, 65].map((top) => backend.canTell!({ row: 0, top }, 100)), [true, false]);
    assertEquals(backend.canTell!({ row: 0, top: 21 }, 20), false);
  },
);

/** Speculation on the embedded models: passes over one token and over several give the same picks. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../runtime/load.ts";
import { seedFrom } from "../../runtime/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";

function open(id: string) {
  return loadModel(fileURLToPath(new URL(`../../models/${id}`, import.meta.url)), {
    id,
    backend: "cpu",
    thread: "own",
    kvBytes: 32 << 20,
    created: 0,
    ownedBy: "decant",
  });
}

const questions = ["Sort: 7 3 9 1", "Copy: red fox, red fox, red fox", "37 + 48 ="];

Deno.test("coupled equals sample on the embedded models, with the draft and with tables", async () => {
  await using target = await open("decant-tiny");
  await using small = await open("decant-tiny-draft");
  const models = { model: target.engine, draft: small.engine };
  let accepted = 0;
  for (const [i, content] of questions.entries()) {
    for (const temperature of [0, 1]) {
      const overrides = {
        prompt: [{ role: "user", content }] as const,
        sampling: { seed: seedFrom(i), temperature, topP: 0.95 },
        maxTokens: 24,
        ignoreStop: true,
        logprobs: 1,
      };
      const plain = await runToEnd(requestOf("sample", target.engine, overrides));
      for (
        const params of [{ gamma: 5 }, { tree_nodes: 8 }, { draft: "suffix", gamma: 8 }, {
          draft: "token-recycling",
          tree_nodes: 12,
        }]
      ) {
        const run = await runToEnd(requestOf("speculative", models, { ...overrides, params }));
        assertEquals(run.choices, plain.choices, `${content} ${temperature}`);
        accepted += run.result.metrics["accepted"]!;
      }
    }
  }
  assert(accepted > 0, "no proposal was accepted");
});

Deno.test("an ensemble of the embedded models gives one text per seed in every framework", async () => {
  await using target = await open("decant-tiny");
  await using small = await open("decant-tiny-draft");
  const models = { model: target.engine, expert2: small.engine };
  for (const combine of ["weighted", "contrastive"]) {
    const texts = [];
    for (const framework of ["plain", "naive", "alternate"]) {
      const { choices } = await runToEnd(requestOf("speculative-ensemble", models, {
        params: { combine, framework, gamma: 2, verify: "coupled" },
        maxTokens: 16,
        prompt: [{ role: "user", content: questions[1]! }],
      }));
      texts.push(choices[0]!.text);
    }
    assertEquals(texts, [texts[0], texts[0], texts[0]]);
  }
});

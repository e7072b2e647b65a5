import { assert, assertEquals } from "@std/assert";
import { greedySampling } from "../../runtime/mod.ts";
import { loadModel } from "../../runtime/load.ts";
import { fileURLToPath } from "node:url";

interface Case {
  readonly prompt: string;
  readonly ids: readonly number[];
  /** Ten best [token, logit] at the end of the prompt. */
  readonly top: readonly (readonly [number, number])[];
  readonly greedy: readonly number[];
}
interface Pieces {
  readonly text: string;
  readonly ids: readonly number[];
  readonly special: readonly number[];
}

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const golden = async <T>(name: string): Promise<readonly T[]> =>
  JSON.parse(await Deno.readTextFile(path(`tests/golden/${name}.json`))).cases;

async function withModel(
  id: string,
  use: (model: Awaited<ReturnType<typeof loadModel>>["engine"]) => Promise<void>,
  backend = "cpu",
) {
  const thread = "own" as const;
  const options = { id, backend, thread, kvBytes: 32 << 20, created: 0, ownedBy: "decant" };
  await using loaded = await loadModel(path(`models/${id}`), options);
  await use(loaded.engine);
}

for (const backend of ["cpu", "wasm"]) {
  Deno.test(`decant-tiny on ${backend}: logits and greedy continuation equal the reference forward pass`, async () => {
    const cases = await golden<Case>("decant_tiny");
    assert(cases.length >= 4);
    await withModel("decant-tiny", async (model) => {
      for (const { prompt, ids, top, greedy } of cases) {
        assertEquals(model.vocab?.encode(prompt, { special: true }), [...ids]);
        using session = model.session(ids);
        const [row] = await session.logits();
        for (const [token, logit] of top) {
          const got = row?.[token] ?? NaN;
          assert(
            Math.abs(got - logit) < 1e-3,
            `${prompt}: token ${token} has ${got}, not ${logit}`,
          );
        }
        const drawn: number[] = [];
        const options = { sampling: greedySampling, maxTokens: greedy.length, ignoreStop: true };
        for await (const { token } of session.generate(options)) drawn.push(token);
        assertEquals(drawn, [...greedy]);
      }
    }, backend);
  });
}

Deno.test("decant tokenizer: ids equal those of the tokenizers library", async () => {
  const cases = await golden<Pieces>("decant_tokenizer");
  assert(cases.length >= 40);
  await withModel("decant-tiny", ({ vocab }) => {
    assert(vocab);
    for (const { text, ids, special } of cases) {
      assertEquals(vocab.encode(text), [...ids], JSON.stringify(text));
      assertEquals(vocab.encode(text, { special: true }), [...special], JSON.stringify(text));
      assertEquals(vocab.decode(vocab.encode(text)), text);
    }
    return Promise.resolve();
  });
});

Deno.test("decant family: one vocabulary, context of 1,024, stops at the end of a turn", async () => {
  const seen: string[] = [];
  for (const id of ["decant-tiny", "decant-tiny-draft"]) {
    await withModel(id, (model) => {
      assert(model.vocab);
      seen.push(model.vocab.fingerprint);
      assertEquals(model.contextLength, 1024);
      const stops = [...model.vocab.stopTokens].map((t) => model.vocab?.piece(t)).sort();
      assertEquals(stops, ["<|endoftext|>", "<|im_end|>"]);
      const ids = model.vocab.chat?.encode([{ role: "user", content: "Hi <|im_end|>" }]) ?? [];
      assertEquals(ids.filter((t) => model.vocab?.isSpecial(t)).length, 3);
      return Promise.resolve();
    });
  }
  assertEquals(seen[0], seen[1]);
});

Deno.test("decant family: all shipped files together are below 12 MB", async () => {
  let bytes = 0;
  for (const id of ["decant-tiny", "decant-tiny-draft"]) {
    for await (const { name } of Deno.readDir(path(`models/${id}`))) {
      bytes += (await Deno.stat(path(`models/${id}/${name}`))).size;
    }
  }
  assert(bytes > 1e6 && bytes < 12e6, `${bytes} bytes`);
});

import { assert, assertEquals } from "@std/assert";
import { createMeter, greedySampling, type KvChoice } from "../../runtime/mod.ts";
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

const story = "Once upon a time there was a little fox. He lived in a small house near the lake " +
  "with his mom. One day the fox wanted to find a red ball. He looked under the bed and behind the " +
  'tree, but the ball was not there. The fox was sad. Then a big bird came down. "Why are you sad?" ' +
  'asked the bird. "I lost my red ball," said the fox. The bird said, "I saw a ball in the water. ' +
  'We can get it with a long stick." They ran to the lake and found a stick. The bird held one end ' +
  "and the fox held the other. Soon they had the ball. The fox was very happy. He gave the bird some " +
  "bread and they played all day.";

Deno.test("decant-tiny: KV in 8 bits changes a story's perplexity by less than 0.5 %", async () => {
  await withModel("decant-tiny", async (model) => {
    const tokens = model.vocab!.encode(story), from = 32;
    const perplexity = async (kv: KvChoice) => {
      const { signal } = new AbortController(), meter = createMeter();
      const scope = { id: "request", signal, meter, cacheSalt: kv.name, kv };
      using session = model.session(tokens.slice(0, from), { scope });
      let sum = 0;
      for (const token of tokens.slice(from)) {
        session.append([token]);
        const [logprob] = await session.score({ last: 1 });
        sum -= logprob!;
      }
      return { value: Math.exp(sum / (tokens.length - from)), ...meter.kv! };
    };
    const full = await perplexity({ name: "full", params: {} });
    const few = await perplexity({ name: "int8", params: { residual: 0 } });
    assert(few.bytes < 0.5 * full.bytes, `${few.bytes} of ${full.bytes}`);
    assert(few.value !== full.value, "nothing was stored in 8 bits");
    assert(Math.abs(few.value / full.value - 1) < 0.005, `${few.value}, full: ${full.value}`);
  }, "wasm");
});

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

import { assert, assertEquals } from "@std/assert";
import type { Vocab } from "../../../runtime/model.ts";
import { sharedData, testWithSharedData } from "../../_shared_data.ts";
import { loadTiktoken } from "../../fakes/tiktoken.ts";
import { readTokenizerFile } from "./_golden_files.ts";
import { loadVocabulary } from "./_vocabularies.ts";

/** Golden file of llama.cpp -> vocabularies that must reproduce it. */
const expectations: readonly (readonly [golden: string, name: string, load: () => Vocab])[] = [
  ...([
    ["gpt-2", "gpt-2 gguf"],
    ["gpt-2", "gpt2 tokenizer.json"],
    ["llama-spm", "llama-spm gguf"],
    ["llama-spm", "llama2 tokenizer.json"],
    ["phi-3", "phi-3 gguf"],
    ["phi-3", "phi-3 tokenizer.json"],
    ["deepseek-coder", "deepseek-coder gguf"],
    ["llama-bpe", "llama3"],
    ["qwen2", "qwen2.5"],
  ] as const).map(([golden, name]) => [golden, name, () => loadVocabulary(name)] as const),
  [
    "llama-bpe",
    "llama3 tokenizer.model",
    () => loadTiktoken(Deno.readFileSync(sharedData("tokenizers/llama3/tokenizer.model"))),
  ],
];

/** Cases in `.inp` are separated by a marker line; `.out` has a line of ids for each. */
function readCases(golden: string): readonly (readonly [text: string, ids: readonly number[]])[] {
  const path = `llamacpp-vocab/ggml-vocab-${golden}.gguf`;
  const texts = readTokenizerFile(`${path}.inp`).split("\n__ggml_vocab_test__\n");
  const lines = readTokenizerFile(`${path}.out`).split("\n");
  return texts.map((text, i) => [text, (lines[i] ?? "").split(" ").filter(Boolean).map(Number)]);
}

for (const [golden, name, load] of expectations) {
  testWithSharedData(
    `encode() reproduces llama.cpp's tokenisations of ${golden} with ${name}`,
    () => {
      const vocab = load();
      const cases = readCases(golden);
      assert(cases.length >= 46, `only ${cases.length} cases were found`);
      for (const [text, ids] of cases) {
        assertEquals(vocab.encode(text), ids, JSON.stringify(text));
        assertEquals(vocab.decode(ids), text);
      }
    },
  );
}

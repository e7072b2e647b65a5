import { assert, assertEquals } from "@std/assert";
import { readTokenizerJson } from "../../../runtime/tokenizer/tokenizer_json.ts";

interface Golden {
  readonly cases: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly special: readonly number[];
  }[];
}

const root = new URL("../../../", import.meta.url);
const read = (path: string) => Deno.readTextFileSync(new URL(path, root));
const golden: Golden = JSON.parse(read("tests/golden/decant_tokenizer.json"));

function load() {
  return readTokenizerJson({
    tokenizer: read("models/decant-tiny/tokenizer.json"),
    config: read("models/decant-tiny/tokenizer_config.json"),
    generation: read("models/decant-tiny/generation_config.json"),
  });
}

Deno.test("readTokenizerJson() encodes as the original with the embedded model's tokenizer", () => {
  const vocab = load();
  assert(golden.cases.length > 20);
  for (const { text, ids, special } of golden.cases) {
    assertEquals(vocab.encode(text), ids, JSON.stringify(text));
    assertEquals(vocab.encode(text, { special: true }), special, JSON.stringify(text));
    assertEquals(vocab.decode(ids), text);
  }
});

Deno.test("the embedded model's chat template opens and closes turns with control tokens", () => {
  const vocab = load();
  const ids = vocab.chat!.encode([{ role: "user", content: "Say <|im_end|> twice." }]);
  const [start, end] = [1, 2];
  assertEquals(ids.filter((id) => id === start).length, 2);
  assertEquals(ids.filter((id) => id === end).length, 1);
  assert(vocab.stopTokens.has(end));
  assertEquals(
    vocab.decode(ids, { special: true }),
    "<|im_start|>user\nSay <|im_end|> twice.<|im_end|>\n<|im_start|>assistant\n",
  );
});

import { assertEquals } from "@std/assert";
import { sharedData, testWithSharedData } from "../_shared_data.ts";
import { loadLlama2cTokenizer } from "./llama2c_tokenizer.ts";

interface Golden {
  readonly models: Readonly<
    Record<
      string,
      readonly {
        prompt: string;
        prompt_ids: number[];
        greedy_ids: number[];
        greedy_text: string;
      }[]
    >
  >;
}

const tokenizers = {
  "stories260K/stories260K.bin": "stories260K/tok512.bin",
  "stories260K/stories260K-q8.bin": "stories260K/tok512.bin",
  "aidreams260K/aidreams260K.bin": "aidreams260K/tok512-dreams.bin",
};

for (const [model, file] of Object.entries(tokenizers)) {
  testWithSharedData(`loadLlama2cTokenizer() gives the golden ids and text of ${model}`, () => {
    const vocab = loadLlama2cTokenizer(Deno.readFileSync(sharedData(`models/${file}`)));
    const golden: Golden = JSON.parse(
      Deno.readTextFileSync(sharedData("models/golden-greedy.json")),
    );
    assertEquals(vocab.size, 512);
    for (const c of golden.models[model]!) {
      assertEquals(vocab.encode(c.prompt, { bos: true }), c.prompt_ids);
      assertEquals(vocab.decode(c.prompt_ids), c.prompt);
      const whole = vocab.decode([...c.prompt_ids, ...c.greedy_ids]);
      assertEquals(whole.slice(c.prompt.length), c.greedy_text);
    }
  });
}

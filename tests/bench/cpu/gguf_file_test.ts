import { assert, assertEquals } from "@std/assert";
import { writeGguf } from "../../../bench/cpu/gguf_file.ts";
import { hollow, randomBlocks, shapes } from "../../../bench/cpu/shapes.ts";
import { tokensAt } from "../../../bench/cpu/_side.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { openModelFiles } from "../../../runtime/model_files.ts";
import { loadDecoder, type ModelConfig } from "../../../runtime/models/mod.ts";
import { rowsOf, Sequence } from "../../fakes/sequence.ts";

for (const [name, type] of [["Qwen2.5-0.5B", "Q4_0"], ["SmolLM2-135M", "Q8_0"]] as const) {
  Deno.test(`writeGguf() writes a file of ${type} that loads and computes: ${name}`, async () => {
    const { architecture, bias } = shapes[name]!;
    const config: ModelConfig = { ...hollow(shapes[name]!), architecture, bias, vocab: 320 };
    const weights = randomBlocks(config, type);
    const path = await Deno.makeTempFile({ suffix: ".gguf" });
    try {
      const written = writeGguf(path, config, weights);
      const files = await openModelFiles(path);
      using source = files.weights;
      assertEquals(files.vocab.size, config.vocab);
      assertEquals(files.vocab.decode(files.vocab.encode("with a moth")), "with a moth");
      assertEquals(
        source.raw("blk.0.ffn_up.weight"),
        weights.raw("model.layers.0.mlp.up_proj.weight"),
      );
      assertEquals([source.dtype("token_embd.weight"), source.dtype("blk.0.attn_q.weight")], [
        "Q8_0",
        type,
      ]);
      using backend = createWasmBackend();
      const decoder = loadDecoder(files.config, source, backend);
      assertEquals(decoder.parameters, written.parameters);
      const options = { pages: 2, pageSize: 16, contextLength: 32 };
      await using executor = createLocalExecutor(decoder, backend, options);
      const [answer] = await new Sequence(executor, Uint32Array.of(0, 1))
        .run([...tokensAt(0, 0, 20, config.vocab)], [{ kind: "logits", last: 20 }]);
      const best = new Set(rowsOf(answer!).map((row) => row.indexOf(Math.max(...row))));
      assert(best.size > 5, "what is most likely depends on the tokens");
    } finally {
      await Deno.remove(path);
    }
  });
}

Deno.test("tokensAt() continues a stream where it stopped, and streams differ", () => {
  const whole = tokensAt(3, 0, 12, 1000);
  assertEquals([...tokensAt(3, 0, 5, 1000), ...tokensAt(3, 5, 7, 1000)], [...whole]);
  assert(tokensAt(4, 0, 12, 1000).some((token, i) => token !== whole[i]));
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend, Tensor } from "../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { FormatError, NotFoundError } from "../../../runtime/errors.ts";
import { loadDecoder, type ModelConfig } from "../../../runtime/models/mod.ts";
import {
  hashedValues,
  hashedWeights,
  llamaShapes,
  tinyConfig,
} from "../../fakes/hashed_weights.ts";

const shapes = llamaShapes(tinyConfig);

/** A CPU backend that counts the tensors not yet freed. */
function countingBackend(): Backend & { readonly open: Set<Tensor> } {
  const backend = createCpuBackend();
  const open = new Set<Tensor>();
  return {
    ...backend,
    open,
    tensor(...args) {
      const tensor = backend.tensor(...args);
      const dispose = tensor[Symbol.dispose].bind(tensor);
      tensor[Symbol.dispose] = () => {
        open.delete(tensor);
        dispose();
      };
      open.add(tensor);
      return tensor;
    },
  };
}

Deno.test("loadDecoder() counts weights, tied ones once, and frees them", () => {
  const backend = countingBackend();
  const count = Object.values(shapes).reduce((sum, s) => sum + s.reduce((a, b) => a * b, 1), 0);
  const decoder = loadDecoder(tinyConfig, hashedWeights(shapes), backend);
  assertEquals(decoder.parameters, count);
  assertEquals(backend.open.size, Object.keys(shapes).length);
  decoder[Symbol.dispose]();
  assertEquals(backend.open.size, 0);

  const config = { ...tinyConfig, tieEmbeddings: true };
  using tied = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  assertEquals(tied.parameters, count - tinyConfig.vocab * tinyConfig.hidden);
});

Deno.test("loadDecoder() names a tensor of the wrong shape, and frees the others", () => {
  const backend = countingBackend();
  for (const name of Object.keys(shapes)) {
    const wrong = { ...shapes, [name]: [...shapes[name]!.slice(0, -1), 7] };
    const error = assertThrows(
      () => loadDecoder(tinyConfig, hashedWeights(wrong), backend),
      FormatError,
      JSON.stringify(name),
    );
    assert(error.message.includes(`should have [${shapes[name]!.join(", ")}]`), error.message);
    assertEquals(backend.open.size, 0);
  }
});

Deno.test("loadDecoder() names a missing tensor and one that has no place", () => {
  using backend = createCpuBackend();
  const load = (change: Record<string, readonly number[]>, config: ModelConfig = tinyConfig) =>
    loadDecoder(config, hashedWeights(change), backend);
  const { "lm_head.weight": output, ...withoutOutput } = shapes;
  assertThrows(() => load(withoutOutput), FormatError, '"lm_head.weight" of shape [50, 24]');
  const bias = "model.layers.1.self_attn.q_proj.bias";
  assertThrows(() => load({ ...shapes, [bias]: [24] }), FormatError, bias);
  // A copy of the tied table and tables that can be computed are no weights of their own.
  using decoder = load({
    ...withoutOutput,
    "lm_head.weight": output!,
    "model.layers.0.self_attn.rotary_emb.inv_freq": [3],
  }, { ...tinyConfig, tieEmbeddings: true });
  assert(decoder.parameters > 0);
});

Deno.test("loadDecoder() refuses an unknown architecture", () => {
  using backend = createCpuBackend();
  for (const architecture of ["GemmaForCausalLM", "constructor"]) {
    const config = { ...tinyConfig, architecture };
    assertThrows(() => loadDecoder(config, hashedWeights(shapes), backend), NotFoundError);
  }
});

Deno.test("hashedValues() gives the values that make_logits.py computes with numpy", () => {
  const close = (actual: Float32Array, expected: readonly number[]) =>
    assertEquals([...actual.slice(0, expected.length)], expected.map(Math.fround));
  close(hashedValues("model.norm.weight", [4]), NORM);
  close(hashedValues("lm_head.weight", [160, 64]), HEAD);
});
const NORM = [1.1542820930480957, 1.242425799369812, 0.7951156497001648, 1.2097132205963135];
const HEAD = [0.11691255122423172, -0.13555382192134857, 0.013987008482217789, 0.1640913337469101];

import { assert, assertEquals, assertThrows } from "@std/assert";
import { writeOnnx } from "../../../bench/cpu/onnx_file.ts";
import { hollow, randomBlocks, shapes } from "../../../bench/cpu/shapes.ts";
import { dequantize } from "../../../runtime/formats/quants.ts";

/** Fields of a message: whole numbers, and the bytes of everything else. */
function fields(bytes: Uint8Array): ReadonlyMap<number, (number | Uint8Array)[]> {
  const found = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1;; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const value = (type: number) => {
    if (type === 0) return varint();
    const length = type === 2 ? varint() : 4;
    return bytes.subarray(at, at += length);
  };
  while (at < bytes.length) {
    const key = varint();
    found.set(key >> 3, [...found.get(key >> 3) ?? [], value(key & 7)]);
  }
  assertEquals(at, bytes.length);
  return found;
}

const messages = (of: ReadonlyMap<number, (number | Uint8Array)[]>, field: number) =>
  (of.get(field) ?? []).map((bytes) => fields(bytes as Uint8Array));
const text = (of: ReadonlyMap<number, (number | Uint8Array)[]>, field: number) =>
  (of.get(field) ?? []).map((bytes) => new TextDecoder().decode(bytes as Uint8Array));

for (const type of ["Q4_0", "Q8_0"] as const) {
  Deno.test(`writeOnnx() writes a graph whose matrices have the weights of ${type}`, async () => {
    const config = { ...hollow(shapes["SmolLM2-135M"]!), vocab: 96, layers: 2 };
    const weights = randomBlocks(config, type);
    const path = await Deno.makeTempFile({ suffix: ".onnx" });
    try {
      writeOnnx(path, config, weights);
      const [graph] = messages(fields(await Deno.readFile(path)), 7);
      const nodes = messages(graph!, 1);
      const counts = Object.groupBy(nodes.map((node) => text(node, 4)[0]!), (op) => op);
      assertEquals(counts.GroupQueryAttention?.length, 2);
      assertEquals(counts.MatMulNBits?.length, 2 * 7 + 1);
      // Every input is there: an input of the graph, a constant, or what a node before it gave.
      const known = new Set([
        ...messages(graph!, 11).flatMap((input) => text(input, 1)),
        ...messages(graph!, 5).flatMap((tensor) => text(tensor, 8)),
      ]);
      for (const node of nodes) {
        for (const input of text(node, 1)) assert(known.has(input), `${input} is unknown`);
        for (const output of text(node, 2)) known.add(output);
      }
      for (const output of messages(graph!, 12)) assert(known.has(text(output, 1)[0]!));

      const constant = (name: string) => {
        const found = messages(graph!, 5).find((tensor) => text(tensor, 8)[0] === name);
        return (found!.get(9)![0] as Uint8Array).slice();
      };
      for (const name of ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"]) {
        const bits = weights.dtype(name) === "Q4_0" ? 4 : 8;
        const integers = constant(name);
        const scales = new Float32Array(constant(`${name}.scales`).buffer);
        const expected = dequantize(weights.dtype(name), weights.raw(name), "random");
        const actual = expected.map((_, i) => {
          const integer = bits === 8 ? integers[i]! : integers[i >> 1]! >> 4 * (i & 1) & 15;
          return (integer - 2 ** (bits - 1)) * scales[Math.floor(i / 32)]!;
        });
        assertEquals(actual, expected, name);
      }
    } finally {
      await Deno.remove(path);
    }
  });
}

Deno.test("writeOnnx() refuses models with biases", () => {
  const config = shapes["Qwen2.5-0.5B"]!;
  assertThrows(() => writeOnnx("/nowhere", config, randomBlocks(config, "Q4_0")), RangeError);
});

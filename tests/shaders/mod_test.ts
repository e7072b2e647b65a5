/** Every kernel: its header, its spec and its file say the same; rules about barriers and loops. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as shaders from "../../shaders/mod.ts";
import { inHalf, type KernelSpec, mayBeHalf, packParams, specialize } from "../../shaders/mod.ts";
import { checkKernel } from "../../runtime/backend/webgpu/pipelines.ts";
import { EngineError } from "../../runtime/errors.ts";
import { gpu, testWithGpu } from "../_webgpu.ts";
import { isVarying, outlineOf } from "./_wgsl.ts";

const specs = Object.values(shaders).filter((value): value is KernelSpec =>
  typeof value === "object" && "source" in value
);
const folder = new URL("../../shaders/", import.meta.url);

Deno.test("every .wgsl file is one kernel of shaders/mod.ts", () => {
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.endsWith(".wgsl"));
  assertEquals(specs.map(({ name }) => `${name}.wgsl`).sort(), files.sort());
  for (const { name, source } of specs) {
    assertEquals(Deno.readTextFileSync(new URL(`${name}.wgsl`, folder)), source);
  }
});

const headings = ["Source", "Shapes", "Types", "Bindings", "Dispatch", "Limits", "Order"];

for (const spec of specs) {
  const { name, source, bindings, params, overrides } = spec;

  Deno.test(`${name}.wgsl: header, bindings, parameters and constants are those of its spec`, () => {
    const lines = source.split("\n");
    assert(lines[0]!.startsWith(`// ${name}: `), lines[0]!);
    const found = lines.flatMap((line) => line.match(/^\/\/ ([A-Z][a-z]+) {2,}\S/)?.[1] ?? []);
    assertEquals(found.filter((heading) => headings.includes(heading)), headings);
    const listed = source.match(/^\/\/ Bindings +(.*)$/m)![1]!;
    assertEquals(listed, bindings.map(([binding], i) => `${i} ${binding}`).join(", "));
    const kinds = { "uniform": "params", "storage, read": "read", "storage, read_write": "write" };
    const declared = [...source.matchAll(/@binding\((\d+)\) var<([^>]+)> (\w+)/g)]
      .map(([, at, kind, binding]) => [Number(at), binding, kinds[kind as keyof typeof kinds]]);
    assertEquals(declared, bindings.map(([binding, kind], i) => [i, binding, kind]));
    assertEquals(fieldsOf(source, "Params"), params.map(([field, type]) => `${field}: ${type}`));
    const constants = [...source.matchAll(/^override (\w+): \w+ = (\w+);/gm)];
    assertEquals(constants.map((match) => match[1]), Object.keys(overrides));
    for (const [, constant, value] of constants) {
      assertEquals(Number(value === "false" ? 0 : value), overrides[constant!]![0], constant!);
    }
  });

  Deno.test(`${name}.wgsl: barriers are where all lanes come by`, () => {
    const { barriers, returns, varying } = outlineOf(source);
    for (const { line, blocks } of barriers) {
      assert(/^@compute.*fn main/.test(blocks[0]!), `line ${line}: barrier outside of main`);
      for (const block of blocks.slice(1)) {
        assert(/^for\b/.test(block), `line ${line}: barrier under ${block}`);
        assert(!isVarying(block, varying), `line ${line}: lanes differ in ${block}`);
      }
    }
    const last = barriers.at(-1)?.line ?? 0;
    for (const { line, blocks } of returns) {
      if (line > last || !blocks[0]!.includes("fn main")) continue;
      assert(
        !isVarying(blocks.at(-1)!, varying),
        `line ${line}: some lanes return before a barrier`,
      );
    }
  });

  Deno.test(`${name}.wgsl: no loop runs more than 32,768 times`, () => {
    for (const { line, text } of outlineOf(source).loops) {
      const most = trips[text];
      assert(most !== undefined, `line ${line}: say in this test how often "${text}" may run`);
      assert(most <= 32_768, `line ${line}: ${most} times`);
    }
  });

  testWithGpu(`${name}.wgsl compiles`, async () => {
    const { device, subgroupPrefix } = gpu!;
    if (spec.usesSubgroups && subgroupPrefix === undefined) return; // no device of ours would run it
    const prefix = spec.usesSubgroups ? subgroupPrefix : "";
    await checkKernel(device, { name, source: prefix + source });
    if (!mayBeHalf(spec) || !device.features.has("shader-f16")) return;
    const half = inHalf(spec).source;
    assertEquals(half.split("\n").length, source.split("\n").length);
    await checkKernel(device, { name, source: prefix + half });
  });
}

/** Loops and how often they run at the limits that the host checks. */
const trips: Readonly<Record<string, number>> = {
  "for (var c = lane; c < params.cols; c += WG)": 32_768, // cols up to 64 * 32,768
  "for (; j < quads; j += 8u)": 2 ** 20 / 4 / 8,
  "for (; j + 24u < quads; j += 32u)": 2 ** 20 / 4 / 32,
  "for (; j < quads / 4u; j += 8u)": 2 ** 20 / 16 / 8,
  "for (; j + 24u < quads / 4u; j += 32u)": 2 ** 20 / 16 / 32,
  "for (; j < quads / 8u; j += 8u)": 2 ** 20 / 32 / 8,
  "for (; j + 24u < quads / 8u; j += 32u)": 2 ** 20 / 32 / 32,
  "for (var stage = 0u; stage < stages; stage++)": 2 ** 20 / 64,
  "for (var k = lane & 7u; k < params.depth; k += 8u)": 2 ** 18 / 8,
  "for (var i = lane; i < params.quads * 4u; i += 64u)": 256 / 64,
  "for (var i = 0u; i < params.quads; i++)": 256 / 4,
  "for (var part = first_part; part < last_part; part++)": 32_768, // slots up to 64 * 32,768
  "for (var part = 0u; part < params.pieces; part++)": 32_768,
  "for (var i = 0u; i < 64u; i += 4u)": 16,
  "for (var i = 0u; i < here; i += 4u)": 16,
  "for (var i = 0u; i < here; i++)": 64,
  "for (var i = lane; i < params.quads * 8u; i += 64u)": 8,
  "for (var i = lane + 8u; i < 128u; i += 8u)": 15,
  "for (var part = 0u; part < parts; part++)": 32_768,
  "for (var k = 0u; k < 8u; k++)": 8,
  "for (var d = 0u; d < params.head_dim; d++)": 256,
  "for (var d = 0u; d < params.head_dim; d += 4u)": 64,
  "for (var c = 0u; c < min(4u, params.head_dim - d); c++)": 4,
  "for (var t = 0u; t < length; t++)": 32_768, // tokens of a row
  "for (var g = 0u; g < per_group; g++)": 1024,
  "for (var k = 0u; k < 16u; k++)": 16,
  "for (var l = 0u; l < 64u; l++)": 64,
  "for (var l = 0u; l < 8u; l++)": 8,
  "for (var i = lane; i < count; i += 64u)": 32_768, // tokens of a list up to 64 * 32,768
  "for (var i = 0u; i < params.count; i++)": 32_768, // parts of 1,024 tokens
  "for (var i = 1u; i < params.count; i++)": 32_768,
  "for (var k = lane; k < here; k += 64u)": 16,
  "for (var j = 0u; j < here; j++)": 1024,
  "for (var j = 0u; j < known; j++)": 64,
  "for (var round = 0u; round < 10u; round++)": 10,
  "for (var round = 0u; round < 32u; round++)": 32,
  "for (var c = 0u; c < min(4u, dim - 4u * i); c++)": 4,
  "for (var c = 0u; c < min(4u, params.head_dim - 4u * i); c++)": 4,
  "for (var c = 0u; c < min(8u, end - d); c++)": 8,
  "for (var c = 0u; c < min(4u, head_dim - d); c++)": 4,
  "for (var c = 0u; c < min(8u, head_dim - d); c++)": 8,
  "for (var d = 0u; d < head_dim; d++)": 256,
  "for (var d = 0u; d < head_dim; d += 4u)": 64,
  "for (var d = 0u; d < head_dim; d += 8u)": 32,
  "for (var d = start; d < end; d++)": 32,
  "for (var d = start; d < end; d += 8u)": 4,
  "for (var g = 0u; g < groups; g++)": 256 / 32,
  "for (var k = 0u; k < 3u; k++)": 3,
  "for (var t = 0u; t < 32u; t++)": 32,
  "for (var d = 0u; d < params.width; d++)": 4096, // width of an adapter's records
  "for (var s = begin + 1u; s < to; s++)": 4096, // slots of a page
  "for (var s = begin; s < to; s++)": 4096,
  "for (var s = 1u; s < params.page_size; s++)": 4096,
  "for (var bit = 0u; bit < 32u; bit++)": 32,
  "for (var i = begin; i < end; i++)": 32_768, // slots up to 64 * 32,768
  "for (var i = lane; i < sinks; i += 64u)": 32_768,
  "for (var i = lane; i < count - recent; i += 64u)": 32_768,
  "for (var c = 0u; c < 4u; c++)": 4,
};

/** Fields of a structure, nested ones written out. */
function fieldsOf(source: string, name: string): string[] {
  const body = source.match(new RegExp(`struct ${name} \\{([^}]*)\\}`))![1]!;
  return [...body.matchAll(/^\s*(\w+): ([^\n/]+),/gm)].flatMap(([, field, type]) => {
    const nested = type!.match(/^array<(\w+), (\d+)>$/);
    if (nested === null) return [`${field}: ${type}`];
    return Array.from(
      { length: Number(nested[2]) },
      (_, i) => fieldsOf(source, nested[1]!).map((inner) => `${field}[${i}].${inner}`),
    ).flat();
  });
}

Deno.test("outlineOf() finds barriers under divergent control flow", () => {
  const bad =
    `fn main() { let n = lane + 1u; for (var i = 0u; i < n; i++) { workgroupBarrier(); } }`;
  const { barriers, varying } = outlineOf(bad);
  assertEquals(barriers.length, 1);
  assert(isVarying(barriers[0]!.blocks[1]!, varying));
});

Deno.test("specialize() and packParams() refuse what the kernel does not have", () => {
  assertThrows(() => specialize(shaders.linearF32, { M: 3 }), RangeError);
  assertThrows(() => specialize(shaders.linearF32, { N: 1 }), RangeError);
  assertThrows(() => packParams(shaders.add, []), RangeError);
  assertThrows(() => inHalf(shaders.add), RangeError);
  const words = packParams(shaders.rmsNorm, [7, 0.5]);
  assertEquals([words[0], new Float32Array(words.buffer)[1], words.length], [7, 0.5, 4]);
});

testWithGpu("checkKernel() names kernel, line and column of an error", async () => {
  const source = "@compute @workgroup_size(1)\nfn main() {\n  let a = undefined_name;\n}\n";
  const error = await assertRejects(
    () => checkKernel(gpu!.device, { name: "broken", source }),
    EngineError,
  );
  assert(error.message.includes("kernel broken, line 3, column 11"), error.message);
});

/**
 * A second compiler over every kernel: Tint, which Chrome uses, from npm. Deno compiles with naga; what
 * only one of them takes is not WGSL. Tint also refuses what naga lets pass: barriers and subgroup
 * operations that not all lanes come by.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as shaders from "../../shaders/mod.ts";
import type { KernelSpec } from "../../shaders/mod.ts";

const specs = Object.values(shaders).filter((value): value is KernelSpec =>
  typeof value === "object" && "source" in value
);

/** There is a binary for these platforms. */
const ignore = Deno.build.os !== "darwin" && Deno.build.arch !== "x86_64";

async function tint(texts: Readonly<Record<string, string>>): Promise<string[]> {
  const lock = new URL("../../deno.dev.lock", import.meta.url).pathname;
  const script = new URL("./_tint.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--frozen", `--lock=${lock}`, script],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await new Blob([JSON.stringify(texts)]).stream().pipeTo(child.stdin);
  const { success, stdout, stderr } = await child.output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

const divergent = `
var<workgroup> sum: f32;
@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) lane: u32) {
  if (lane < 4u) { sum = 1.0; workgroupBarrier(); }
}`;

const name = "Tint, the compiler of Chrome, takes every kernel without an error or a warning";
Deno.test(
  ignore ? `${name} (ignored: no binary for this processor)` : name,
  { ignore },
  async () => {
    assert(specs.length > 30);
    const variants = [...specs, ...specs.filter(shaders.mayBeHalf).map(shaders.inHalf)];
    const texts = Object.fromEntries(
      variants.map(({ name, source, usesSubgroups, full }) => [
        full === undefined ? `${name}.wgsl` : `${name}.wgsl in f16`,
        usesSubgroups ? `enable subgroups;\n${source}` : source,
      ]),
    );
    assertEquals(await tint(texts), []);
  },
);

Deno.test(
  "Tint does look: a wrong type, and a barrier that half of the lanes pass by",
  { ignore },
  async () => {
    const said = await tint({ type: "fn f() { let x = 1u + 1i; }", divergent });
    assertEquals(said.length, 2);
    assertStringIncludes(said[0]!, "type:1:");
    assertStringIncludes(said[1]!, "divergent:4:");
    assertStringIncludes(said[1]!, "uniform control flow");
  },
);

// deno-lint-ignore-file no-console -- run by hand
/**
 * The second compiler: feeds every kernel to Dawn's, which checks what Deno's does not (uniform control
 * flow around barriers, reserved words). By hand, since the package is 130 MB:
 *
 *     deno run -A --no-lock --node-modules-dir=none tests/shaders/check_with_dawn.ts
 *
 * Needs no GPU. Ends with status 1 if a kernel is refused.
 */
import * as shaders from "../../shaders/mod.ts";

/** The part of the package that is used; it is fetched at run time, so its types are not here. */
interface Dawn {
  create(options: readonly string[]): GPU;
}
const name = "npm:webgpu@0.6.2";
const { create }: Dawn = await import(name);
const adapter = await create(["backend=null"]).requestAdapter();
const device = await adapter!.requestDevice();
let refused = 0;
for (const spec of Object.values(shaders)) {
  if (typeof spec !== "object" || !("source" in spec)) continue;
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: spec.name, code: spec.source });
  device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const { messages } = await module.getCompilationInfo();
  const error = await device.popErrorScope();
  if (messages.length === 0 && error === null) continue;
  refused++;
  for (const { type, lineNum, linePos, message } of messages) {
    console.log(`${spec.name}, line ${lineNum}, column ${linePos}: ${type}: ${message}`);
  }
  if (error !== null) console.log(`${spec.name}: ${error.message}`);
}
console.log(refused === 0 ? "Dawn accepts every kernel" : `Dawn refuses ${refused} kernels`);
Deno.exit(refused === 0 ? 0 : 1);

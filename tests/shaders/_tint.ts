/**
 * What Tint, the compiler of Chrome, says about WGSL: texts as JSON on standard input, by name; complaints
 * as JSON on standard output. Runs as a process of its own, since Dawn's bindings only live in a
 * process's first thread.
 */
import { create } from "npm:webgpu@0.3.8";

/** A device that computes nothing. */
async function openTint(): Promise<GPUDevice> {
  const options = ["backend=null", "enable-dawn-features=allow_unsafe_apis"];
  const adapter: GPUAdapter | null = await create(options).requestAdapter();
  if (!adapter) throw new Error("Dawn has no null adapter");
  const requiredFeatures: GPUFeatureName[] = ["shader-f16", "subgroups"];
  return await adapter.requestDevice({ requiredFeatures });
}

/** Errors and warnings as "name:line:column: message". */
async function complaints(device: GPUDevice, name: string, code: string): Promise<string[]> {
  device.pushErrorScope("validation");
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  await device.popErrorScope();
  return messages.filter(({ type }) => type !== "info")
    .map(({ lineNum, linePos, message }) => `${name}:${lineNum}:${linePos}: ${message}`);
}

if (import.meta.main) {
  const texts: Readonly<Record<string, string>> = await new Response(Deno.stdin.readable).json();
  const device = await openTint();
  const said: string[] = [];
  for (const [name, code] of Object.entries(texts)) {
    said.push(...await complaints(device, name, code));
  }
  device.destroy();
  await new Blob([JSON.stringify(said)]).stream().pipeTo(Deno.stdout.writable);
}

/**
 * Whether lanes can pass each other values the way the kernels need it. Subgroups differ between
 * devices, drivers and even kernels; what ours need is that lanes n and n ^ 1, n ^ 2, n ^ 4 of a workgroup
 * are in one subgroup and find each other. Rather than trust what an adapter says, this is tried.
 */

/** Lanes 0 to 63 say whom they met. */
const PROBE = `
@group(0) @binding(0) var<storage, read_write> met: array<u32, 192>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  let a = subgroupShuffleXor(lane, 1u);
  let b = subgroupShuffleXor(lane, 2u);
  let c = subgroupShuffleXor(lane, 4u);
  met[lane] = a;
  met[lane + 64u] = b;
  met[lane + 128u] = c;
}
`;

/** The directive that Chrome wants, and that Deno's compiler does not know. */
const DIRECTIVE = "enable subgroups;\n";

/**
 * @returns what has to stand before kernels with subgroup operations, undefined if they cannot be used
 */
export async function probeSubgroups(device: GPUDevice): Promise<string | undefined> {
  for (const prefix of ["", DIRECTIVE]) {
    if (await meets(device, prefix + PROBE)) return prefix;
  }
  return undefined;
}

async function meets(device: GPUDevice, code: string): Promise<boolean> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: "subgroups", code });
  const { messages } = await module.getCompilationInfo();
  if (await device.popErrorScope() !== null) return false;
  if (messages.some(({ type }) => type === "error")) return false;
  const bytes = 4 * 192;
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC;
  const out = device.createBuffer({ label: "subgroups", size: bytes, usage });
  const readable = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
  const mapped = device.createBuffer({ label: "subgroups", size: bytes, usage: readable });
  try {
    device.pushErrorScope("validation");
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: [{ binding: 0, resource: { buffer: out } }],
      }),
    );
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(out, 0, mapped, 0, bytes);
    device.queue.submit([encoder.finish()]);
    if (await device.popErrorScope() !== null) return false;
    await mapped.mapAsync(GPUMapMode.READ);
    const met = new Uint32Array(mapped.getMappedRange().slice(0));
    return met.every((lane, i) => lane === ((i % 64) ^ (1 << Math.floor(i / 64))));
  } catch {
    return false; // a lost device, which whoever uses it next is told of
  } finally {
    out.destroy();
    mapped.destroy();
  }
}

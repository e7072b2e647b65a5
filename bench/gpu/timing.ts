/** Times on the GPU: timestamps at the ends of passes where the device has them, else the wall clock. */
import type { Gpu } from "../../runtime/backend/webgpu/mod.ts";
import type { Dispatch } from "../../runtime/backend/webgpu/recorder.ts";

/** Seconds that work took on the GPU. */
export interface Timer {
  readonly kind: "timestamps" | "wall clock";
  /** Time of passes, each encoded by one function; all in one submission. */
  passes(encode: readonly ((pass: GPUComputePassEncoder) => void)[]): Promise<number[]>;
  /** Time of any commands on an idle queue, less what waiting for nothing takes. */
  commands(encode: (encoder: GPUCommandEncoder) => void): Promise<number>;
}

/** Most passes that are timed at once: two timestamps each in one query set. */
const MOST = 2048;

export async function createTimer({ device }: Gpu): Promise<Timer> {
  const hasTimestamps = device.features.has("timestamp-query");
  const idle = Math.min(...await Promise.all([1, 2, 3].map(() => waitMs(device, () => {}))));
  const commands = async (encode: (encoder: GPUCommandEncoder) => void) =>
    Math.max(1e-9, (await waitMs(device, encode) - idle) / 1000);
  if (!hasTimestamps) {
    return {
      kind: "wall clock",
      commands,
      async passes(encode) {
        const times: number[] = [];
        for (const one of encode) {
          times.push(
            await commands((encoder) => {
              const pass = encoder.beginComputePass();
              one(pass);
              pass.end();
            }),
          );
        }
        return times;
      },
    };
  }
  const querySet = device.createQuerySet({ type: "timestamp", count: 2 * MOST });
  const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
  const resolved = device.createBuffer({ size: 16 * MOST, usage });
  const mapped = device.createBuffer({
    size: 16 * MOST,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  return {
    kind: "timestamps",
    commands,
    async passes(encode) {
      if (encode.length > MOST) throw new RangeError(`${encode.length} passes are too many`);
      const encoder = device.createCommandEncoder();
      encode.forEach((one, i) => {
        const pass = encoder.beginComputePass({
          timestampWrites: {
            querySet,
            beginningOfPassWriteIndex: 2 * i,
            endOfPassWriteIndex: 2 * i + 1,
          },
        });
        one(pass);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, 2 * encode.length, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, mapped, 0, 16 * encode.length);
      device.queue.submit([encoder.finish()]);
      await mapped.mapAsync(GPUMapMode.READ, 0, 16 * encode.length);
      const times = new BigUint64Array(mapped.getMappedRange(0, 16 * encode.length).slice(0));
      mapped.unmap();
      return encode.map((_, i) => Number(times[2 * i + 1]! - times[2 * i]!) / 1e9);
    },
  };
}

async function waitMs(device: GPUDevice, encode: (encoder: GPUCommandEncoder) => void) {
  await device.queue.onSubmittedWorkDone();
  const encoder = device.createCommandEncoder();
  encode(encoder);
  const start = performance.now();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return performance.now() - start;
}

/** Encodes dispatches that were recorded before. */
export function replay(pass: GPUComputePassEncoder, dispatches: readonly Dispatch[]): void {
  for (const { pipeline, group, x, y, z } of dispatches) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
  }
}

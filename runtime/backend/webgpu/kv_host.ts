/** What KV pools get from their backend, and what policies may ask of them. */
import { gatherRows } from "../../../shaders/mod.ts";
import { type Backend, fullKvSupport, type KvSupport } from "../backend.ts";
import type { GpuBuffer } from "./memory.ts";
import { stepData, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { Submissions } from "./submissions.ts";

/** What a pool needs of its backend. */
export interface PoolHost {
  readonly bindingBytes: number;
  /** Whether K and V are stored in f16. */
  readonly isHalf: boolean;
  /** A zeroed buffer. @throws {RangeError} if it does not fit the budget */
  buffer(label: string, bytes: number): GpuBuffer;
  free(buffer: GpuBuffer): void;
  /** Frees it once what has been recorded so far has run. */
  retire(buffer: GpuBuffer): void;
  /** Some rows of `width` values of a buffer, once everything recorded has run. */
  gather(buffer: GpuBuffer, width: number, rows: Uint32Array): Promise<Float32Array>;
}

/** What policies may ask for; pages in f16 know no other formats, and no kernels choose among them. */
export function supportOf(isHalf: boolean): KvSupport {
  const { granularities, formats, signals, reads } = fullKvSupport;
  return {
    granularities,
    formats: isHalf ? [] : formats,
    signals,
    adapters: true,
    reads: isHalf ? [] : reads,
    readSlots: true,
    sight: !isHalf,
    turns: true,
  };
}

/** The host of the pools of one backend; pools are told apart by it. */
export function createPoolHost(
  stage: Stage,
  submissions: Submissions,
  backend: Pick<Backend, "record" | "read"> & Pick<PoolHost, "bindingBytes" | "isHalf">,
): PoolHost {
  const { memory, data } = stage, { bindingBytes, isHalf } = backend;
  return {
    bindingBytes,
    isHalf,
    buffer: (label, bytes) => {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      return memory.buffer(label, bytes, usage);
    },
    free: (buffer) => {
      submissions.submit();
      memory.destroy(buffer);
    },
    retire: (buffer) => memory.retire(buffer),
    // Only the rows that are asked for: a pool may hold gigabytes.
    gather: async (buffer, width, rows) => {
      if (rows.length === 0) return new Float32Array(0);
      using picked = backend.record(() => {
        const y = stage.slice("gather", [rows.length, width]);
        stage.dispatch(
          gatherRows,
          [width, data.put(rows)],
          [target(buffer, 0, buffer.size), stepData, target(y.result, y.offset, y.bytes)],
          [Math.ceil(width / 64), rows.length, 1],
        );
        return stage.tensor("gather", [rows.length, width], y);
      });
      return await backend.read(picked);
    },
  };
}

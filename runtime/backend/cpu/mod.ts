/**
 * The CPU backend: plain loops over f32 arrays, one op per file, written to be read. It is the
 * reference that every other backend is tested against.
 *
 * A row's result is the same to the bit whatever else is in the batch, however its prompt was cut
 * into chunks and wherever its pages lie: every op fixes its order of additions by that row alone.
 */
import { type Backend, fullKvSupport, type Ops } from "../backend.ts";
import { add } from "./add.ts";
import { attention } from "./attention.ts";
import { embed } from "./embed.ts";
import { gatherRows } from "./gather_rows.ts";
import { kvCopy, kvEncode } from "./kv_copy.ts";
import { CpuKvPool, cpuPool } from "./kv_pool.ts";
import { kvRecord, kvWrite } from "./kv_write.ts";
import { linear } from "./linear.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";
import { gelu } from "./gelu.ts";
import { swiglu } from "./swiglu.ts";
import { Arena, CpuTensor, cpuTensor, elements } from "./tensor.ts";

export { CpuKvPool } from "./kv_pool.ts";

/** A backend that keeps everything in f32 arrays of this thread. */
export function createCpuBackend(): Backend {
  const arena = new Arena();
  const ops = createOps(arena);
  return {
    name: "cpu",
    limits: { maxBindingBytes: Number.MAX_SAFE_INTEGER, f16: false, subgroups: false },
    kv: fullKvSupport,
    tensor(label, shape, dtype, data) {
      if (dtype !== "f32") {
        throw new TypeError(`Cannot make tensor ${label}: the CPU backend has f32, not ${dtype}`);
      }
      const size = elements(label, shape);
      if (data !== undefined && data.length !== size) {
        throw new RangeError(
          `Cannot make tensor ${label}: [${
            shape.join(", ")
          }] is ${size} values, got ${data.length}`,
        );
      }
      return new CpuTensor(
        label,
        [...shape],
        data === undefined ? new Float32Array(size) : new Float32Array(data),
        () => {},
      );
    },
    kvPool: (layout, pages) => new CpuKvPool(layout, pages),
    record: (build) => arena.scope(() => build(ops)),
    read: (tensor) => new Promise((resolve) => resolve(cpuTensor("read", tensor).data.slice())),
    [Symbol.dispose]() {},
  };
}

function createOps({ alloc }: Arena): Ops {
  return {
    embed: (table, tokens) => embed(alloc, cpuTensor("embed", table), tokens),
    rmsNorm: (x, weight, eps) =>
      rmsNorm(alloc, cpuTensor("rms_norm", x), cpuTensor("rms_norm", weight), eps),
    linear: (x, weight, bias) =>
      linear(
        alloc,
        cpuTensor("linear", x),
        cpuTensor("linear", weight),
        bias && cpuTensor("linear", bias),
      ),
    add: (x, y) => add(alloc, cpuTensor("add", x), cpuTensor("add", y)),
    swiglu: (gate, up) => swiglu(alloc, cpuTensor("swiglu", gate), cpuTensor("swiglu", up)),
    gelu(x) {
      const { shape, data } = cpuTensor("gelu", x), y = alloc("gelu", shape);
      gelu(data, y.data);
      return y;
    },
    rope: (x, positions, spec) => rope(alloc, cpuTensor("rope", x), positions, spec),
    kvWrite: (pool, layer, k, v, rows, slots) =>
      kvWrite(
        cpuPool("kv_write", pool),
        layer,
        cpuTensor("kv_write", k),
        cpuTensor("kv_write", v),
        rows,
        slots,
      ),
    attention: (q, pool, layer, rows, options) =>
      attention(
        alloc,
        cpuTensor("attention", q),
        cpuPool("attention", pool),
        layer,
        rows,
        {
          scale: options.scale,
          signals: options.signals,
          queries: (name) => {
            const queries = options.queries?.get(name);
            return queries && cpuTensor("attention", queries);
          },
        },
      ),
    gatherRows: (x, rows) => gatherRows(alloc, cpuTensor("gather_rows", x), rows),
    kvCopy: (pool, from, to, options) => kvCopy(cpuPool("kv_copy", pool), from, to, options),
    kvEncode: (pool, from, to, place) => kvEncode(cpuPool("kv_encode", pool), from, to, place),
    kvRecord: (pool, layer, signal, values, rows, slots) =>
      kvRecord(
        cpuPool("kv_record", pool),
        layer,
        signal,
        cpuTensor("kv_record", values),
        rows,
        slots,
      ),
  };
}

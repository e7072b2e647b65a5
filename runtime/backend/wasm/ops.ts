/** The ops of the backend: each checks its tensors' backend and layout, and calls its own file. */
import type { Drawn, Ops, Tensor } from "../backend.ts";
import { gelu } from "../cpu/gelu.ts";
import { kvEncode } from "../cpu/kv_copy.ts";
import { elements, sameShape } from "../cpu/tensor.ts";
import { attention } from "./attention.ts";
import { cut } from "./cut.ts";
import { draw } from "./draws.ts";
import { kvCopy, kvRecord, kvWrite } from "./kv.ts";
import { wasmPool } from "./kv_pool.ts";
import { linear } from "./linear.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";
import { asRows, pickRows } from "./rows.ts";
import type { Step } from "./step.ts";
import { type WasmTensor, wasmTensor } from "./tensor.ts";

/** Results of draws by the tensor that stands for them. */
export type DrawResults = WeakMap<Tensor, readonly (Drawn | undefined)[]>;

/** Ops that compute within `step`; draws go to `drawn`. */
export function createOps(step: Step, drawn: DrawResults): Ops {
  const { heap, scope } = step;
  const rowsOf = (op: string, x: Tensor) => rowsIn(step, op, x);
  return {
    scoped: (build) => scope.within(build),
    embed: (table, tokens) =>
      pickRows(step, "embed", wasmTensor("embed", table, heap), tokens, "Token"),
    rmsNorm: (x, weight, eps) =>
      rmsNorm(step, rowsOf("rms_norm", x), wasmTensor("rms_norm", weight, heap), eps),
    linear: (x, weight, bias) =>
      linear(
        step,
        wasmTensor("linear", x, heap),
        wasmTensor("linear", weight, heap),
        bias && wasmTensor("linear", bias, heap),
      ),
    add: (x, y) => elementwise(step, "add", 2, x, y),
    swiglu: (x, y) => elementwise(step, "swiglu", 16, x, y),
    gelu(x) {
      const { address, shape } = rowsOf("gelu", x), y = scope.alloc("gelu", shape);
      const size = elements("gelu", shape), { floats } = heap;
      const valuesAt = (at: number) => floats.subarray(at / 4, at / 4 + size);
      gelu(valuesAt(address), valuesAt(y.address)); // few and small
      return y;
    },
    rope: (x, positions, spec) => rope(step, rowsOf("rope", x), positions, spec),
    kvWrite: (pool, layer, k, v, rows, slots) =>
      kvWrite(
        wasmPool("kv_write", pool, heap),
        layer,
        rowsOf("kv_write", k),
        rowsOf("kv_write", v),
        rows,
        slots,
      ),
    attention: (q, pool, layer, rows, options) =>
      attention(
        step,
        rowsOf("attention", q),
        wasmPool("attention", pool, heap),
        layer,
        rows,
        {
          scale: options.scale,
          signals: options.signals,
          queries: (name) => {
            const queries = options.queries?.get(name);
            return queries && rowsOf("attention", queries);
          },
        },
      ),
    draw(logits, vocab, draws) {
      const result = scope.alloc("draws", [1]);
      drawn.set(result, draw(step, rowsOf("draw", logits), vocab, draws));
      return result;
    },
    gatherRows: (x, rows) =>
      pickRows(step, "gather_rows", wasmTensor("gather_rows", x, heap), rows, "Row"),
    kvCopy: (pool, from, to, options) => kvCopy(wasmPool("kv_copy", pool, heap), from, to, options),
    kvEncode: (pool, from, to, place) =>
      kvEncode(wasmPool("kv_encode", pool, heap), from, to, place),
    kvRecord: (pool, layer, signal, values, rows, slots) =>
      kvRecord(
        wasmPool("kv_record", pool, heap),
        layer,
        signal,
        rowsOf("kv_record", values),
        rows,
        slots,
      ),
  };
}

/** Checks a tensor that ops read row by row. */
function rowsIn(step: Step, op: string, x: Tensor): WasmTensor {
  return asRows(step, op, wasmTensor(op, x, step.heap));
}

/**
 * An op on each value by itself; works on the padding as well.
 *
 * @param work per value, as {@link cut} counts
 */
function elementwise(
  step: Step,
  op: "add" | "swiglu",
  work: number,
  x: Tensor,
  y: Tensor,
): WasmTensor {
  sameShape(op, x, y);
  const a = rowsIn(step, op, x).address, b = rowsIn(step, op, y).address;
  const z = step.scope.alloc(op, x.shape);
  // Not all of its memory: a row has room for three more.
  const bytes = Math.ceil(elements(op, x.shape) / 4) * 16;
  const parts = cut(step, bytes, 64, work / 4)
    .map(({ from, count }) => [a + from, b + from, z.address + from, count]);
  step.team.run(op, parts);
  return z;
}

/** The table of ops: checks whose tensors and pools they are given, and hands them on. */
import type { Ops, Tensor } from "../backend.ts";
import { attention, kvWrite } from "./attention.ts";
import { draw } from "./draws.ts";
import { kvCopy, kvEncode } from "./kv_copy.ts";
import type { PoolHost } from "./kv_host.ts";
import { gpuPool } from "./kv_pool.ts";
import { kvRecord } from "./kv_record.ts";
import { linear } from "./linear.ts";
import { add, embed, gatherRows, rmsNorm, rope, swiglu } from "./rows.ts";
import type { Stage } from "./stage.ts";
import { tell } from "./tells.ts";
import { gpuTensor } from "./tensor.ts";

/** Ops that record into `stage`, for tensors made there and pools of `host`. */
export function createOps(stage: Stage, host: PoolHost): Ops {
  const own = (op: string, tensor: Tensor) => gpuTensor(op, tensor, stage);
  const ownAll = (op: string, tensors: ReadonlyMap<string, Tensor>) =>
    new Map([...tensors].map(([name, tensor]) => [name, own(op, tensor)]));
  return {
    embed: (table, tokens) => embed(stage, own("embed", table), tokens),
    rmsNorm: (x, weight, eps) => rmsNorm(stage, own("rms_norm", x), own("rms_norm", weight), eps),
    linear: (x, weight, bias) =>
      linear(stage, own("linear", x), own("linear", weight), bias && own("linear", bias)),
    add: (x, y) => add(stage, own("add", x), own("add", y)),
    swiglu: (gate, up) => swiglu(stage, own("swiglu", gate), own("swiglu", up)),
    rope: (x, positions, spec) => rope(stage, own("rope", x), positions, spec),
    kvWrite: (pool, layer, k, v, rows, slots) =>
      kvWrite(
        stage,
        gpuPool("kv_write", pool, host),
        layer,
        own("kv_write", k),
        own("kv_write", v),
        rows,
        slots,
      ),
    attention: (q, pool, layer, rows, options) =>
      attention(
        stage,
        own("attention", q),
        gpuPool("attention", pool, host),
        layer,
        rows,
        { ...options, queries: options.queries && ownAll("attention", options.queries) },
      ),
    draw: (logits, vocab, draws) => draw(stage, own("draw", logits), vocab, draws),
    tell: (logits, vocab, asks) => tell(stage, own("tell", logits), vocab, asks),
    gatherRows: (x, rows) => gatherRows(stage, own("gather_rows", x), rows),
    kvRecord: (pool, layer, signal, values, rows) =>
      kvRecord(
        stage,
        gpuPool("kv_record", pool, host),
        layer,
        signal,
        own("kv_record", values),
        rows,
      ),
    kvEncode: (pool, from, to, place) =>
      kvEncode(stage, gpuPool("kv_encode", pool, host), from, to, place),
    kvCopy: (pool, from, to, options) =>
      kvCopy(stage, gpuPool("kv_copy", pool, host), from, to, options),
  };
}

/**
 * linear on the host side: up to three layers of one x in one dispatch, sums and gates fused in, and
 * matrices in several buffers one dispatch each.
 *
 * A layer is computed when its result is needed. Until then, others of the same x may join it (q, k
 * and v), a sum may take it in (residuals), or two may become a gated one.
 */
import * as kernels from "../../../shaders/mod.ts";
import type { KernelSpec } from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import { matrix } from "../cpu/tensor.ts";
import type { GpuBuffer } from "./memory.ts";
import { type Target, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import { type GpuTensor, type Shard, type Slice, wholeBuffer } from "./tensor.ts";

/** A layer that is not computed yet. */
interface Layer {
  readonly x: GpuTensor;
  readonly weight: GpuTensor;
  readonly bias: GpuTensor | undefined;
  readonly tokens: number;
  readonly depth: number;
  readonly outputs: number;
}

const layers = new WeakMap<GpuTensor, Layer>();
/** Layers of one x in one dispatch. */
const MOST_PARTS = 3;
/** Loops run at most 32,768 times: some drivers end longer ones. */
const DEEPEST = 2 ** 20;
/** Words of a part in the kernels' parameters. */
const NO_PART = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/** How weights of a type are multiplied. */
interface Format {
  /** For few tokens, eight rows per workgroup. */
  readonly spec: KernelSpec;
  /** For one token, where lanes can pass each other values. */
  readonly single: KernelSpec;
  /** Bytes of the unit their weights are addressed in. */
  readonly unit: number;
  /** For many tokens, `tileRows` rows per workgroup. */
  readonly tile: KernelSpec;
  readonly tileRows: number;
}

const formats: Readonly<Record<string, Format>> = {
  f32: {
    spec: kernels.linearF32,
    single: kernels.linearSubgroupF32,
    unit: 16,
    tile: kernels.linearTileF32,
    tileRows: 32,
  },
  f16: {
    spec: kernels.linearF16,
    single: kernels.linearSubgroupF16,
    unit: 8,
    tile: kernels.linearTileF16,
    tileRows: 32,
  },
  q8: {
    spec: kernels.linearQ8,
    single: kernels.linearSubgroupQ8,
    unit: 16,
    tile: kernels.linearTileQ8,
    tileRows: 16,
  },
  q4: {
    spec: kernels.linearQ4,
    single: kernels.linearSubgroupQ4,
    unit: 16,
    tile: kernels.linearTileQ4,
    tileRows: 16,
  },
};
/** Tokens of a tile. */
const TILE_TOKENS = 16;

/**
 * @param x [rows, K]
 * @param weight [N, K]
 * @param bias [N]
 * @returns [rows, N]
 */
export function linear(stage: Stage, x: GpuTensor, weight: GpuTensor, bias?: GpuTensor): GpuTensor {
  const [tokens, depth] = matrix("linear", x);
  const [outputs, inputs] = matrix("linear", weight);
  if (depth !== inputs) {
    throw new ShapeError("linear", `x has ${depth} columns, weight ${weight.label} ${inputs}`);
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== outputs)) {
    throw new ShapeError("linear", `bias is [${bias.shape.join(", ")}], should be [${outputs}]`);
  }
  const layer = { x, weight, bias, tokens, depth, outputs };
  const y = stage.later("linear", [tokens, outputs], (self) => compute(stage, self, layer));
  layers.set(y, layer);
  return y;
}

/** The layer a tensor stands for, if it is not computed yet. */
function layerOf(stage: Stage, tensor: GpuTensor): Layer | undefined {
  return stage.pending.has(tensor) ? layers.get(tensor) : undefined;
}

/** The only buffer a matrix lies in; undefined where it does not lie in one, or is no weight. */
function homeOf({ storage }: GpuTensor): { buffer: GpuBuffer; shard: Shard } | undefined {
  if (storage.kind !== "shards" || storage.shards.length !== 1) return undefined;
  const shard = storage.shards[0]!;
  return { buffer: shard.range.buffer, shard };
}

/** Whether one dispatch can compute both. */
function canJoin(a: Layer, b: Layer): boolean {
  if (a.x !== b.x || a.weight.dtype !== b.weight.dtype || a.depth % 4 !== 0) return false;
  const home = homeOf(a.weight)?.buffer;
  if (home === undefined || homeOf(b.weight)?.buffer !== home) return false;
  return biasHome(a, home) === home && biasHome(b, home) === home;
}

/** The buffer a bias would have to be bound from: any will do where there is none. */
function biasHome({ bias }: Layer, any: GpuBuffer): GpuBuffer | undefined {
  return bias === undefined ? any : homeOf(bias)?.buffer;
}

function compute(stage: Stage, y: GpuTensor, layer: Layer): Slice {
  const joined: [GpuTensor, Layer][] = [[y, layer]];
  if (stage.fuses) {
    for (const other of stage.pending) {
      const its = layers.get(other);
      if (its === undefined || joined.length === MOST_PARTS || !canJoin(layer, its)) continue;
      if (its.outputs > 0) joined.push([other, its]);
    }
  }
  const slices = stage.slices("linear", joined.map(([, l]) => [l.tokens, l.outputs]));
  run(stage, joined.map(([, l], i) => ({ layer: l, slice: slices[i]! })));
  joined.slice(1).forEach(([tensor], i) => {
    stage.pending.delete(tensor);
    tensor.settle(slices[i + 1]!);
  });
  return slices[0]!;
}

/**
 * x + y where one of them is a layer that is not computed yet. The layer itself stays to be computed,
 * should anybody else need it.
 */
export function addLinear(stage: Stage, x: GpuTensor, y: GpuTensor): GpuTensor | undefined {
  for (const [sum, other] of [[y, x], [x, y]] as const) {
    const layer = layerOf(stage, sum);
    if (layer === undefined || sum === other || layer.depth % 4 !== 0) continue;
    if (homeOf(layer.weight) === undefined) continue;
    stage.pending.delete(sum);
    const residual = other.target;
    const slice = stage.slice("linear", sum.shape);
    run(stage, [{ layer, slice }], { residual });
    return stage.tensor("add", sum.shape, slice);
  }
  return undefined;
}

/** silu(gate) * up of two layers of the same x. */
export function gatedLinear(stage: Stage, gate: GpuTensor, up: GpuTensor): GpuTensor | undefined {
  const first = layerOf(stage, gate), second = layerOf(stage, up);
  if (first === undefined || second === undefined || gate === up) return undefined;
  if (!canJoin(first, second) || (first.bias === undefined) !== (second.bias === undefined)) {
    return undefined;
  }
  stage.pending.delete(gate);
  stage.pending.delete(up);
  const slice = stage.slice("linear", gate.shape);
  run(stage, [{ layer: first, slice }], { up: second });
  return stage.tensor("swiglu", gate.shape, slice);
}

interface Part {
  readonly layer: Layer;
  readonly slice: Slice;
}

interface Fused {
  readonly residual?: Target;
  readonly up?: Layer;
}

/** One dispatch, or one per buffer of a matrix that lies in several. */
function run(stage: Stage, parts: readonly Part[], fused: Fused = {}): void {
  const { x, weight, tokens, depth } = parts[0]!.layer;
  if (tokens === 0) return;
  if (depth > (depth % 4 === 0 ? DEEPEST : DEEPEST / 4)) {
    throw new ShapeError("linear", `a depth of ${depth} is too large for one loop`);
  }
  if (depth % 4 !== 0 || weight.storage.kind !== "shards") {
    for (const part of parts) runAny(stage, part);
    return;
  }
  const { unit } = formats[weight.dtype]!;
  const { spec, height, size, constants } = shapeOf(stage, parts[0]!.layer, fused.up !== undefined);
  const from = x.target;
  for (let s = 0; s < (weight.storage as { shards: readonly Shard[] }).shards.length; s++) {
    let first = 0;
    const fields: number[] = [];
    let home: GpuBuffer | undefined;
    for (const { layer, slice } of parts) {
      const shard = shardsOf(layer.weight)[s]!;
      home = shard.range.buffer;
      fields.push(...fieldsOf(layer, shard, { first, unit, slice, up: fused.up }));
      first += Math.ceil(shard.rows / height);
    }
    while (fields.length < MOST_PARTS * NO_PART.length) fields.push(...NO_PART);
    const { result } = parts[0]!.slice;
    const bound = wholeBuffer(home!);
    const bias = parts.find(({ layer }) => layer.bias !== undefined)?.layer.bias;
    stage.dispatch(
      spec,
      [depth, tokens, 0, 0, ...fields],
      [
        from,
        bound,
        bias === undefined ? bound : wholeBuffer(shardsOf(bias)[0]!.range.buffer),
        fused.residual ?? bound,
        target(result, 0, result.bytes),
      ],
      size(first),
      {
        ...constants,
        GATED: fused.up === undefined ? 0 : 1,
        RESIDUAL: fused.residual === undefined ? 0 : 1,
      },
    );
  }
}

/** Which kernel, rows of a workgroup and workgroups. All kinds of kernel give the same bits. */
function shapeOf(stage: Stage, { weight, tokens }: Layer, isGated: boolean) {
  const { spec, single, tile, tileRows } = formats[weight.dtype]!;
  if (tokens >= stage.tilesFrom) {
    const tiles = Math.ceil(tokens / TILE_TOKENS);
    return {
      spec: tile,
      height: isGated ? tileRows / 2 : tileRows,
      size: (groups: number) => [tiles, groups, 1] as const,
      constants: {},
    };
  }
  if (tokens === 1 && stage.subgroups) {
    const size = (groups: number) => [groups, 1, 1] as const;
    return { spec: single, height: 8, size, constants: {} };
  }
  // Fewer variants where few tokens beyond a tile would be computed in vain.
  const M = tokens > 4 ? 8 : tokens > 2 ? 4 : tokens;
  const tiles = Math.ceil(tokens / M);
  return {
    spec,
    height: 8,
    size: (groups: number) => [groups, tiles, 1] as const,
    constants: { M },
  };
}

function shardsOf(tensor: GpuTensor): readonly Shard[] {
  const { storage } = tensor;
  if (storage.kind !== "shards") throw new ShapeError("linear", `${tensor.label} is no weight`);
  return storage.shards;
}

/** A part as the kernel reads it. */
function fieldsOf(
  { weight, bias, outputs }: Layer,
  shard: Shard,
  { first, unit, slice, up }: {
    readonly first: number;
    readonly unit: number;
    readonly slice: Slice;
    readonly up: Layer | undefined;
  },
): number[] {
  const place = ({ range, scales }: Shard) => [range.offset / unit, (range.offset + scales) / 4];
  const biasAt = (b: GpuTensor | undefined) =>
    b === undefined ? 0 : shardsOf(b)[0]!.range.offset / 4;
  void weight;
  return [
    shard.rows,
    first,
    ...place(shard),
    biasAt(bias) + (bias === undefined ? 0 : shard.first),
    ...(up === undefined ? [0, 0] : place(shardsOf(up.weight)[0]!)),
    biasAt(up?.bias),
    slice.offset / 4 + shard.first,
    outputs,
    bias === undefined ? 0 : 1,
    0,
  ];
}

/** Depths that cannot be read as vectors, and weights that are results themselves. */
function runAny(stage: Stage, { layer, slice }: Part): void {
  const { x, weight, bias, tokens, depth, outputs } = layer;
  if (weight.dtype !== "f32") {
    throw new ShapeError("linear", `${weight.label} in ${weight.dtype} needs a depth in fours`);
  }
  const from = x.target;
  const to = target(slice.result, slice.offset, slice.bytes);
  const { storage } = weight;
  const shards = storage.kind === "shards"
    ? storage.shards.map(({ first, rows, range }) => ({
      first,
      rows,
      at: target(range.buffer, range.offset, range.size),
    }))
    : [{ first: 0, rows: outputs, at: weight.target }];
  for (const { first, rows, at } of shards) {
    stage.dispatch(
      kernels.linearAny,
      [depth, rows, 0, first, bias === undefined ? 0 : 1, first, outputs],
      [from, at, bias?.target ?? at, to],
      [Math.ceil(rows / 8), tokens, 1],
    );
  }
}

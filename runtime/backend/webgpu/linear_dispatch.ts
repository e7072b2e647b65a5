/** Dispatches of linear: which kernel computes layers of one x, and the numbers it is given. */
import * as kernels from "../../../shaders/mod.ts";
import type { KernelSpec } from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { GpuBuffer } from "./memory.ts";
import { type Target, target } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import { type GpuTensor, type Shard, type Slice, wholeBuffer } from "./tensor.ts";

/** A layer that is not computed yet. */
export interface Layer {
  readonly x: GpuTensor;
  readonly weight: GpuTensor;
  readonly bias: GpuTensor | undefined;
  readonly tokens: number;
  readonly depth: number;
  readonly outputs: number;
}

/** Layers of one x in one dispatch. */
export const MOST_PARTS = 3;
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

/** A layer, and where its result goes. */
export interface Part {
  readonly layer: Layer;
  readonly slice: Slice;
}

/** What a product takes in: a sum, or the other layer of a gate. */
export interface Fused {
  readonly residual?: Target;
  readonly up?: Layer;
}

/** One dispatch, or one per buffer of a matrix that lies in several. */
export function dispatchLayers(stage: Stage, parts: readonly Part[], fused: Fused = {}): void {
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
  { bias, outputs }: Layer,
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

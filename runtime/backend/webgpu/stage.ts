/** Stage: what the ops of one backend share while a step is recorded. */
import { type Constants, inHalf, type KernelSpec, subgroupTwins } from "../../../shaders/mod.ts";
import { ClosedError } from "../../errors.ts";
import type { Gpu } from "./device.ts";
import { aligned, f32Bytes, type Memory } from "./memory.ts";
import type { Pipelines } from "./pipelines.ts";
import { type Recorder, Result, type Target } from "./recorder.ts";
import type { RopeTables } from "./rope_table.ts";
import type { RowTables } from "./row_table.ts";
import type { StepData } from "./step_data.ts";
import { GpuTensor, type Slice, type Storage } from "./tensor.ts";

/** See file comment. */
export class Stage {
  readonly pending = new Set<GpuTensor>();
  /** Word of the draws of this step, 0 if there are none. */
  draws = 0;
  /** What to do if the step that is recorded never runs. */
  readonly undo: (() => void)[] = [];
  #made: GpuTensor[] | undefined;

  constructor(
    readonly gpu: Gpu,
    readonly memory: Memory,
    readonly data: StepData,
    readonly recorder: Recorder,
    readonly pipelines: Pipelines,
    readonly tables: RowTables,
    readonly ropes: RopeTables,
    /** Whether ops are joined where that saves dispatches. */
    readonly fuses: boolean,
    /** Tokens from which on matrix products and attention are tiled. It changes no result. */
    readonly tilesFrom: number,
    /** Whether kernels with subgroup operations are used. It changes no result. */
    readonly subgroups: boolean,
  ) {}

  /** Tensors made since {@link begin}. */
  begin(): void {
    if (this.#made !== undefined) throw new ClosedError("record() cannot be nested");
    this.#made = [];
    this.data.reset();
    this.tables.reset();
    this.draws = 0;
    this.undo.length = 0;
    this.pending.clear();
  }

  end(): readonly GpuTensor[] {
    const made = this.#made ?? [];
    this.#made = undefined;
    this.pending.clear();
    return made;
  }

  dispatch(
    spec: KernelSpec,
    params: readonly number[],
    targets: readonly Target[],
    size: readonly [x: number, y: number, z: number],
    constants: Constants = {},
  ): void {
    const twin = this.subgroups ? subgroupTwins.get(spec.full ?? spec) : undefined;
    const kernel = twin === undefined ? spec : spec.full === undefined ? twin : inHalf(twin);
    this.recorder.dispatch(this.pipelines.get(kernel, constants), params, targets, size);
  }

  /** Memory for f32 results of a shape. */
  slice(label: string, shape: readonly number[]): Slice {
    const bytes = aligned(f32Bytes(label, shape));
    return { result: new Result(bytes), offset: 0, bytes };
  }

  /** Memory for several results in one buffer. */
  slices(labels: string, shapes: readonly (readonly number[])[]): Slice[] {
    const sizes = shapes.map((shape) => aligned(f32Bytes(labels, shape)));
    const result = new Result(sizes.reduce((a, b) => a + b, 0));
    let offset = 0;
    return sizes.map((bytes) => {
      const slice = { result, offset, bytes };
      offset += bytes;
      return slice;
    });
  }

  /** A result that is computed already. */
  tensor(label: string, shape: readonly number[], slice: Slice): GpuTensor {
    return this.#keep(label, shape, { kind: "slice", slice });
  }

  /** A result that is computed when it is needed, perhaps together with others. */
  later(
    label: string,
    shape: readonly number[],
    compute: (self: GpuTensor) => Slice,
  ): GpuTensor {
    const tensor = this.#keep(label, shape, {
      kind: "pending",
      compute: () => {
        this.pending.delete(tensor);
        return compute(tensor);
      },
    });
    this.pending.add(tensor);
    if (!this.fuses) tensor.compute();
    return tensor;
  }

  #keep(label: string, shape: readonly number[], storage: Storage): GpuTensor {
    if (this.#made === undefined) throw new ClosedError("Ops were used outside of record()");
    const tensor = new GpuTensor(this, label, [...shape], "f32", storage, (freed) => {
      if (freed.kind === "slice" && freed.slice.result.isKept) {
        this.recorder.release(freed.slice.result);
      }
    });
    this.#made.push(tensor);
    return tensor;
  }
}

/** Workgroups of 64 lanes for `size` values, spread over two dimensions. */
export function spread(size: number): readonly [x: number, y: number, z: number] {
  const groups = Math.ceil(size / 64);
  const x = Math.min(groups, 32_768);
  return [x, x === 0 ? 0 : Math.ceil(groups / x), 1];
}

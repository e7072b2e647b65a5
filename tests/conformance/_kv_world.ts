/** A KV pool with a mirror on the host, so that tests know what every slot holds. */
import type { AttentionRow, Backend, KvPool, Tensor } from "../../runtime/backend/backend.ts";
import type { KvGranularity, KvLayout, KvSignal } from "../../runtime/kv/policy.ts";
import { groupCount, groupOf, unitBase, unitOffset, unitsOf } from "../../runtime/kv/units.ts";
import type { Rng } from "../../runtime/rng.ts";
import { attend, type Expected, permutation, randomMatrix } from "./_backend_reference.ts";
import type { Matrix } from "./_backend_reference.ts";

/** Shape of a world. */
export interface WorldShape extends KvLayout {
  readonly heads: number;
  readonly pages: number;
}

/** A row together with where its new tokens go. */
export interface WorldRow extends Omit<AttentionRow, "start" | "signals"> {
  readonly slots: readonly Uint32Array[];
}

/** K, V and q of a row's new tokens in one layer. */
export interface Input {
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
}

/** Random q, k and v for new tokens. */
export function inputOf(shape: WorldShape, rng: Rng, tokens: number): Input {
  const { heads, kvHeads, headDim } = shape;
  return {
    q: randomMatrix(rng, tokens, heads * headDim),
    k: randomMatrix(rng, tokens, kvHeads * headDim),
    v: randomMatrix(rng, tokens, kvHeads * headDim),
  };
}

/** See file comment. */
export class World implements Disposable {
  readonly pool: KvPool;
  /** [unit * pageSize + offset], each [headDim] */
  readonly #keys: Float32Array[];
  readonly #values: Float32Array[];
  readonly slots: number;

  constructor(readonly backend: Backend, readonly shape: WorldShape) {
    const { layers, kvHeads, headDim, pageSize, pages } = shape;
    this.pool = backend.kvPool({ layers, kvHeads, headDim, pageSize }, pages);
    this.slots = pages * pageSize;
    const empty = () => new Array<Float32Array>(layers * kvHeads * this.slots);
    this.#keys = empty();
    this.#values = empty();
  }

  [Symbol.dispose](): void {
    this.pool[Symbol.dispose]();
  }

  /** Writes every slot: random values, or `value` in all of them. */
  fill(rng: Rng, value?: number): void {
    const { layers, kvHeads, headDim } = this.shape;
    const all = Uint32Array.from({ length: this.slots }, (_, s) => s);
    const row: WorldRow = {
      length: this.slots,
      granularity: "sequence",
      pages: [Uint32Array.from({ length: this.shape.pages }, (_, p) => p)],
      counts: Uint32Array.of(this.slots),
      slots: [all],
    };
    for (let layer = 0; layer < layers; layer++) {
      const k = randomMatrix(rng, this.slots, kvHeads * headDim);
      const v = randomMatrix(rng, this.slots, kvHeads * headDim);
      if (value !== undefined) {
        k.data.fill(value);
        v.data.fill(value);
      }
      this.write(layer, [row], k, v);
    }
  }

  /**
   * A row on pages of its own, taken from everything behind the `free` sequence pages; `counts` says
   * how many slots each group sees, cyclically.
   */
  row(
    rng: Rng,
    granularity: KvGranularity,
    length: number,
    counts: readonly number[],
    free: readonly number[],
  ): WorldRow {
    const { pageSize } = this.shape;
    const groups = groupCount(this.shape, granularity);
    const count = (g: number) => counts[g % counts.length]!;
    const order = [...permutation(rng, free.length * groups)];
    const pages = Array.from(
      { length: groups },
      (_, g) =>
        Uint32Array.from(
          order.splice(0, Math.ceil(count(g) / pageSize)),
          (i) => Math.floor(i / free.length) * this.shape.pages + free[i % free.length]!,
        ),
    );
    const slots = pages.map((list, g) =>
      Uint32Array.from({ length }, (_, t) => {
        const s = count(g) - length + t;
        return list[Math.floor(s / pageSize)]! * pageSize + s % pageSize;
      })
    );
    return {
      length,
      granularity,
      pages,
      counts: Uint32Array.from({ length: groups }, (_, g) => count(g)),
      slots,
    };
  }

  /** kvWrite of the rows' tokens, in the pool and in the mirror. */
  write(layer: number, rows: readonly WorldRow[], k: Matrix, v: Matrix): void {
    using kt = this.#upload(k);
    using vt = this.#upload(v);
    const slots = rows.map((row) => row.slots);
    this.backend.record((ops) => ops.kvWrite(this.pool, layer, kt, vt, attentionRows(rows), slots));
    const { kvHeads, headDim } = this.shape;
    let token = 0;
    for (const row of rows) {
      for (let t = 0; t < row.length; t++, token++) {
        for (let head = 0; head < kvHeads; head++) {
          const slot = row.slots[this.group(row, layer, head)]![t]!;
          const from = token * kvHeads * headDim + head * headDim;
          const place = this.#place(row.granularity, layer, head, slot);
          this.#keys[place] = k.data.slice(from, from + headDim);
          this.#values[place] = v.data.slice(from, from + headDim);
        }
      }
    }
  }

  /** kvCopy in the pool and in the mirror. */
  copy(from: Uint32Array, to: Uint32Array, granularity: KvGranularity = "sequence"): void {
    const place = { granularity, format: "f32" } as const;
    this.backend.record((ops) =>
      granularity === "sequence"
        ? ops.kvCopy(this.pool, from, to)
        : ops.kvCopy(this.pool, from, to, place)
    );
    const { pageSize, pages } = this.shape;
    const cells = (slot: number) =>
      unitsOf(this.shape, pages, granularity, Math.floor(slot / pageSize))
        .map((unit) => unit * pageSize + slot % pageSize);
    for (const [i, slot] of from.entries()) {
      const targets = cells(to[i]!);
      for (const [u, source] of cells(slot).entries()) {
        this.#keys[targets[u]!] = this.#keys[source]!;
        this.#values[targets[u]!] = this.#values[source]!;
      }
    }
  }

  /** Where the mirror keeps a physical slot. */
  #place(granularity: KvGranularity, layer: number, head: number, slot: number): number {
    const { pageSize, pages } = this.shape;
    const unit = unitBase(this.shape, pages, granularity, layer, head) +
      unitOffset(this.shape, pages, granularity, Math.floor(slot / pageSize));
    return unit * pageSize + slot % pageSize;
  }

  /** Attention as the backend computes it. */
  async attention(
    layer: number,
    rows: readonly WorldRow[],
    q: Matrix,
    signals: readonly KvSignal[] = [],
  ): Promise<Float32Array> {
    using qt = this.#upload(q);
    using out = this.backend.record((ops) =>
      ops.attention(qt, this.pool, layer, attentionRows(rows), { scale: this.scale, signals })
    );
    return await this.backend.read(out);
  }

  /** Writes k and v, then attends. */
  async step(layer: number, rows: readonly WorldRow[], input: Input): Promise<Float32Array> {
    this.write(layer, rows, input.k, input.v);
    return await this.attention(layer, rows, input.q);
  }

  /** Attention as plain loops over the mirror compute it. */
  expected(layer: number, rows: readonly WorldRow[], q: Matrix): Expected[] {
    const { heads, kvHeads, headDim } = this.shape;
    const out: Expected[] = [];
    let token = 0;
    for (const row of rows) {
      for (let t = 0; t < row.length; t++, token++) {
        for (let h = 0; h < heads; h++) {
          const head = Math.floor(h * kvHeads / heads);
          const { keys, values } = this.visible(row, layer, head, t);
          const from = token * heads * headDim + h * headDim;
          out.push(...attend(q.data.slice(from, from + headDim), keys, values, this.scale));
        }
      }
    }
    return out;
  }

  /** What token t of a row sees in one layer and kv head. */
  visible(row: WorldRow, layer: number, head: number, t: number): {
    readonly slots: readonly number[];
    readonly keys: readonly Float32Array[];
    readonly values: readonly Float32Array[];
  } {
    const { pageSize } = this.shape;
    const g = this.group(row, layer, head);
    const count = row.counts[g]!, before = count - row.length;
    const words = Math.ceil(row.length / 32);
    const sees = (j: number) =>
      row.treeMask === undefined
        ? j <= t
        : ((row.treeMask[t * words + Math.floor(j / 32)]! >>> (j % 32)) & 1) === 1;
    const slots = Array.from({ length: count }, (_, s) => s)
      .filter((s) => s < before || sees(s - before))
      .map((s) => row.pages[g]![Math.floor(s / pageSize)]! * pageSize + s % pageSize);
    return {
      slots,
      keys: slots.map((slot) => this.#keys[this.#place(row.granularity, layer, head, slot)]!),
      values: slots.map((slot) => this.#values[this.#place(row.granularity, layer, head, slot)]!),
    };
  }

  group(row: WorldRow, layer: number, head: number): number {
    return groupOf(this.shape, row.granularity, layer, head);
  }

  get scale(): number {
    return 1 / Math.sqrt(this.shape.headDim);
  }

  #upload({ rows, cols, data }: Matrix): Tensor {
    return this.backend.tensor("test", [rows, cols], "f32", data);
  }
}

/** Rows as ops take them: flattened, one after the other. */
export function attentionRows(rows: readonly WorldRow[]): AttentionRow[] {
  let start = 0;
  return rows.map(({ slots: _, ...rest }) => {
    const row = { start, ...rest };
    start += rest.length;
    return row;
  });
}

/** Rows `from` to `to` of a matrix. */
export function slice({ cols, data }: Matrix, from: number, to: number): Matrix {
  return { rows: to - from, cols, data: data.slice(from * cols, to * cols) };
}

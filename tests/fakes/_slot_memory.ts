/** What the fake executor's slots hold, and how tokens look at them: hashes instead of numbers. */
import { chooseSlots } from "../../runtime/backend/cpu/row_slots.ts";
import type { PageEdit, Row, Want } from "../../runtime/engine/executor.ts";
import type { KvFormat, KvGranularity, KvLayout, KvSignal } from "../../runtime/kv/policy.ts";
import { groupCount, unitBase, unitOffset, unitsOf } from "../../runtime/kv/units.ts";
import { EngineError, type TokenId } from "../../runtime/mod.ts";

type PerPage = Readonly<Record<KvFormat, number>>;

/** Hash, position and recorded attention of every slot, in each format. */
interface Cells {
  readonly hashes: Float64Array;
  readonly positions: Int32Array;
  readonly records: Map<KvSignal, Float32Array>;
}

interface SeenSlot {
  readonly format: KvFormat;
  /** unit * slots per page + offset */
  readonly at: number;
}

/** See file comment. */
export class SlotMemory {
  readonly #layout: KvLayout;
  readonly #pages: number;
  readonly #deep: boolean;
  readonly #perPage: PerPage;
  readonly #recordWidths: Readonly<Record<string, number>>;
  readonly #cells: Readonly<Record<KvFormat, Cells>>;

  /** @param recordWidths adapter -> numbers per slot */
  constructor(
    layout: KvLayout,
    pages: number,
    deep: boolean,
    perPage: PerPage,
    recordWidths: Readonly<Record<string, number>>,
  ) {
    this.#recordWidths = recordWidths;
    this.#layout = layout;
    this.#pages = pages;
    this.#deep = deep;
    this.#perPage = perPage;
    const units = layout.layers * layout.kvHeads * pages;
    const cells = (format: KvFormat): Cells => ({
      hashes: new Float64Array(units * perPage[format]).fill(NaN),
      positions: new Int32Array(units * perPage[format]),
      records: new Map(),
    });
    this.#cells = {
      f32: cells("f32"),
      int8: cells("int8"),
      int4: cells("int4"),
      kivi4: cells("kivi4"),
    };
  }

  /** A page, or a piece of one, in every format. */
  poison(page: number, parts: number): void {
    const { layers, kvHeads } = this.#layout;
    const granularity = parts === 1 ? "sequence" : parts === layers ? "layer" : "kv-head";
    if (parts !== 1 && parts !== layers && parts !== layers * kvHeads) throw new RangeError();
    for (const unit of unitsOf(this.#layout, this.#pages, granularity, page)) {
      for (const format of ["f32", "int8", "int4", "kivi4"] as const) {
        const size = this.#perPage[format];
        this.#cells[format].hashes.fill(NaN, unit * size, (unit + 1) * size);
      }
    }
  }

  edit(edit: PageEdit): void {
    const { granularity, format } = edit.place ?? { granularity: "sequence", format: "f32" };
    const source = edit.op === "encode" ? "f32" : format;
    edit.from.forEach((from, i) => {
      const targets = this.#places(edit.to[i]!, granularity, format);
      this.#places(from, granularity, source).forEach((place, u) => {
        const shift = edit.op === "copy" ? edit.shifts?.[i] ?? 0 : 0;
        this.#move({ format: source, at: place }, { format, at: targets[u]! }, shift);
      });
    });
  }

  /** Writes the row's slots and returns the output of each of its tokens. */
  compute(row: Row): number[] {
    const { granularity } = row.tables;
    const size = row.tokens.length, groups = groupCount(this.#layout, granularity);
    const heads = Array.from({ length: groups }, (_, group) => this.#slotsOf(row, group));
    for (const { slots } of heads) for (const slot of slots.slice(0, -size)) this.#read(slot);
    const outputs: number[] = [];
    for (let t = 0; t < size; t++) {
      const token = row.tokens[t]!, position = row.positions[t]!;
      const seen = heads.map(({ slots, group }) => {
        const before = slots.length - size;
        const visible = slots.map((_, i) => i).filter((i) =>
          isSeen(row, t, i) &&
          (i < before ? isRead(row, group, i) : i - before < t && isVisible(row, t, i - before))
        );
        const ask = mix(token) ^ position;
        const chosen = row.rule === undefined || t < (row.ruleFrom ?? 0)
          ? visible
          : [...chooseSlots(
            { ...row.rule, budget: row.rule.budget - 1, window: Math.max(1, row.rule.window - 1) },
            Uint32Array.from(visible),
            () => visible.map((i) => mix(ask ^ this.#read(slots[i]!))),
          )];
        const states = chosen.map((i) => this.#read(slots[i]!));
        this.#record(row, heads.length, group, chosen.map((i) => slots[i]!), ask);
        return states;
      });
      const output = outputOf(token, position, seen);
      outputs.push(output);
      for (const { slots, group } of heads) {
        const at = slots.length - size + t;
        this.#write(row, group, slots[at]!, t, this.#deep ? output : token, position);
      }
    }
    return outputs;
  }

  signal({ name, layer, kvHead, slots, place }: Extract<Want, { kind: "signal" }>): Float32Array {
    const { granularity, format } = place ?? { granularity: "sequence", format: "f32" };
    const width = ["key", "value", "query"].includes(name)
      ? this.#layout.headDim
      : this.#recordWidths[name.replace("adapter:", "")] ?? 1;
    const out: number[] = [];
    for (const slot of slots) {
      const at = this.#place(slot, granularity, format, layer, kvHead);
      if (name.startsWith("attention-")) {
        out.push(this.#cells[format].records.get(name)?.[at] ?? 0);
        continue;
      }
      const state = this.#read({ format, at });
      for (let i = 0; i < width; i++) out.push(mix(state + 31 * i + layer + 7 * kvHead) / 2 ** 32);
    }
    return Float32Array.from(out);
  }

  /** Slots of a group in order; other formats first. */
  #slotsOf(row: Row, group: number): { group: number; slots: SeenSlot[] } {
    const { tables } = row, { granularity } = tables;
    const [layer, head] = this.#home(granularity, group);
    const slots: SeenSlot[] = [];
    const add = (ids: Uint32Array, count: number, format: KvFormat) => {
      const size = this.#perPage[format];
      for (let s = 0; s < count; s++) {
        const page = ids[Math.floor(s / size)];
        if (page === undefined) throw new EngineError(`Slot ${s} is not in the page table`);
        const slot = page * size + s % size;
        slots.push({ format, at: this.#place(slot, granularity, format, layer, head) });
      }
    };
    const { encoded } = tables;
    if (encoded !== undefined) add(encoded.pages[group]!, encoded.counts[group]!, encoded.format);
    add(tables.pages[group]!, tables.counts[group]!, "f32");
    row.slots[group]!.forEach((slot, t) => {
      const at = this.#place(slot, granularity, "f32", layer, head);
      if (slots[slots.length - row.tokens.length + t]!.at !== at) {
        throw new EngineError(`Token ${t} of a row is out of place`);
      }
    });
    return { group, slots };
  }

  /** A layer and head that the group serves. */
  #home(granularity: KvGranularity, group: number): [layer: number, head: number] {
    const { kvHeads } = this.#layout;
    if (granularity === "sequence") return [0, 0];
    return granularity === "layer" ? [group, 0] : [Math.floor(group / kvHeads), group % kvHeads];
  }

  #place(
    slot: number,
    granularity: KvGranularity,
    format: KvFormat,
    layer: number,
    head: number,
  ): number {
    const size = this.#perPage[format], id = Math.floor(slot / size);
    const unit = unitBase(this.#layout, this.#pages, granularity, layer, head) +
      unitOffset(this.#layout, this.#pages, granularity, id);
    return unit * size + slot % size;
  }

  #places(slot: number, granularity: KvGranularity, format: KvFormat): number[] {
    const size = this.#perPage[format];
    return unitsOf(this.#layout, this.#pages, granularity, Math.floor(slot / size))
      .map((unit) => unit * size + slot % size);
  }

  #write(row: Row, group: number, _: SeenSlot, t: number, hash: number, position: number): void {
    const places = this.#places(row.slots[group]![t]!, row.tables.granularity, "f32");
    const { hashes, positions, records } = this.#cells.f32;
    for (const at of places) {
      hashes[at] = hash;
      positions[at] = position;
      for (const record of records.values()) record[at] = 0;
    }
  }

  #move(from: SeenSlot, to: SeenSlot, shift: number): void {
    this.#read(from);
    const source = this.#cells[from.format], target = this.#cells[to.format];
    target.hashes[to.at] = source.hashes[from.at]!;
    target.positions[to.at] = source.positions[from.at]! + shift;
    for (const name of new Set([...source.records.keys(), ...target.records.keys()])) {
      this.#recordOf(name, to.format)[to.at] = this.#recordOf(name, from.format)[from.at]!;
    }
  }

  #recordOf(name: KvSignal, format: KvFormat): Float32Array {
    const { records, hashes } = this.#cells[format];
    let record = records.get(name);
    if (record === undefined) records.set(name, record = new Float32Array(hashes.length));
    return record;
  }

  /** Every layer and head of the group finds other weights. */
  #record(row: Row, groups: number, group: number, seen: readonly SeenSlot[], ask: number): void {
    for (const name of row.signals ?? []) {
      if (!name.startsWith("attention-")) continue;
      for (const { format, at } of seen) {
        const weight = mix(ask ^ this.#read({ format, at }) ^ group) / 2 ** 32;
        const size = this.#perPage[format], unit = Math.floor(at / size);
        const record = this.#recordOf(name, format);
        // Coarse groups record in each of their units.
        const others = groups === 1
          ? unitsOf(this.#layout, this.#pages, "sequence", unit % this.#pages)
          : groups === this.#layout.layers
          ? Array.from({ length: this.#layout.kvHeads }, (_, h) => unit + h * this.#pages)
          : [unit];
        for (const other of others) {
          const place = other * size + at % size;
          if (name === "attention-last") record[place] = weight;
          else if (name === "attention-max") record[place] = Math.max(record[place]!, weight);
          else record[place]! += weight;
        }
      }
    }
  }

  #read({ format, at }: SeenSlot): number {
    const { hashes, positions } = this.#cells[format];
    const hash = hashes[at];
    if (hash === undefined || Number.isNaN(hash)) {
      throw new EngineError(`Slot ${at} of ${format} was read and holds nothing`);
    }
    return stateOf(hash, positions[at]!, format);
  }
}

function isRead(row: Row, group: number, slot: number): boolean {
  const read = row.tables.read?.[group];
  return read === undefined || slot >= row.tables.readFrom![group]! || read.includes(slot);
}

function isSeen({ tables: { sight } }: Row, t: number, slot: number): boolean {
  return sight === undefined || sight.until[slot]! > sight.places[t]!;
}

function isVisible(row: Row, t: number, j: number): boolean {
  if (row.treeMask === undefined) return j < t;
  const words = Math.ceil(row.tokens.length / 32);
  return (row.treeMask[t * words + (j >>> 5)]! >>> (j & 31) & 1) === 1;
}

/** What is found in a slot. */
export function stateOf(hash: number, position: number, format: KvFormat): number {
  return mix(hash ^ mix(position + 1) ^ { f32: 0, int8: 8, int4: 4, kivi4: 5 }[format]);
}

/** What a token becomes that sees these states, per group. */
export function outputOf(
  token: TokenId,
  position: number,
  seen: readonly (readonly number[])[],
): number {
  let hash = mix(mix(token + 1) ^ position);
  for (const states of seen) for (const state of states) hash = mix(Math.imul(hash, 31) ^ state);
  return hash;
}

/** Murmur3's finaliser: every output bit depends on every input bit. */
export function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Consulting policies: when, what they are shown, and how their edits change page tables.
 *
 * A policy is consulted when the settled length reaches a multiple of its interval (by default a page),
 * and when it reaches the end of the prompt: points fixed by the sequence, so that results do not
 * depend on load.
 */
import { EngineError } from "../errors.ts";
import { type EditHost, encodeSlots, keepSlots } from "./edits.ts";
import { groupTokens } from "./formats.ts";
import { recordedBy } from "./policy.ts";
import type {
  KvEdit,
  KvGroup,
  KvLayout,
  KvPolicy,
  KvSchedule,
  KvSignal,
  KvView,
} from "./policy.ts";
import type { SequenceKv } from "./sequence_kv.ts";
import type { KvTable } from "./table.ts";
import { groupOf } from "./units.ts";

/** The part of a sequence that consulting needs. */
export interface Consulted {
  readonly kv: SequenceKv;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** How many tokens are settled when `computed` are computed. */
  settledAt(computed: number): number;
}

/** What a consultation needs from the engine. */
export interface ConsultHost extends EditHost {
  readonly layout: KvLayout;
}

/** The settled length at which the policy is consulted next. */
export function nextConsult(
  { kv: { settled, policyState }, promptLength }: Pick<Consulted, "kv" | "promptLength">,
  schedule: KvSchedule,
  policy: Pick<KvPolicy, "next">,
): number {
  if (policy.next !== undefined) return policy.next(policyState, settled, promptLength);
  const isPrompt = settled < promptLength;
  const every = isPrompt ? schedule.prompt : schedule.decode;
  const boundary = every === Infinity ? Infinity : (Math.floor(settled / every) + 1) * every;
  return isPrompt ? Math.min(boundary, promptLength) : boundary;
}

/** Settles what has left the rollback window and consults the policy at each point on the way. */
export function settleKv(
  sequence: Consulted,
  policy: KvPolicy,
  schedule: KvSchedule,
  turns: boolean,
  host: ConsultHost,
): void {
  const { kv } = sequence;
  const settled = sequence.settledAt(kv.computed);
  while (kv.settled < settled) {
    const point = nextConsult(sequence, schedule, policy);
    if (point > settled) break;
    kv.settled = point;
    const { state, edits } = policy.plan(kv.policyState, viewOf(sequence, policy, host.layout));
    kv.policyState = state;
    for (const edit of edits) apply(edit, sequence, policy, turns, host);
  }
  kv.settled = Math.max(kv.settled, settled);
}

/** Built on demand: most policies look at little of it. */
function viewOf(
  { kv, tokens, promptLength }: Consulted,
  policy: KvPolicy,
  layout: KvLayout,
): KvView {
  const committed = kv.settled;
  return {
    committed,
    promptLength,
    get tokens() {
      return tokens.slice(0, committed);
    },
    get groups() {
      return kv.tables.map((table, group) => groupView(kv, table, group, policy, layout));
    },
  };
}

function groupView(
  kv: SequenceKv,
  table: KvTable,
  group: number,
  policy: KvPolicy,
  layout: KvLayout,
): KvGroup {
  const { granularity } = kv.shape, { layers, kvHeads } = layout;
  const layer = granularity === "layer" ? group : Math.floor(group / kvHeads);
  const head = group % kvHeads;
  const ofLayers = granularity === "sequence" ? [0, layers] as const : [layer, layer + 1] as const;
  const ofHeads = granularity === "kv-head" ? [head, head + 1] as const : [0, kvHeads] as const;
  const signalOf = (name: KvSignal, layer: number, kvHead: number) => {
    const values = kv.signals?.get(name)?.[layer * kvHeads + kvHead];
    if (values !== undefined && policy.signals.includes(name)) return values;
    throw new RangeError(`The policy did not declare the signal ${JSON.stringify(name)}`);
  };
  return {
    layers: ofLayers,
    kvHeads: ofHeads,
    positions: table.positionList(),
    encoded: table.firstPlain,
    signalOf,
    signal(name) {
      let all: Float32Array | undefined;
      for (let l = ofLayers[0]; l < ofLayers[1]; l++) {
        for (let h = ofHeads[0]; h < ofHeads[1]; h++) {
          all = joinSignals(name, all, signalOf(name, l, h));
        }
      }
      return all ?? new Float32Array(0);
    },
  };
}

/** Adds one head's values to those of others: their sum or, of largest weights, the largest. */
function joinSignals(
  name: KvSignal,
  all: Float32Array | undefined,
  one: Float32Array,
): Float32Array {
  if (all === undefined) return one.slice();
  const isLargest = name === "attention-max";
  return all.map((value, i) => isLargest ? Math.max(value, one[i]!) : value + one[i]!);
}

function apply(
  edit: KvEdit,
  sequence: Consulted,
  policy: KvPolicy,
  turns: boolean,
  host: ConsultHost,
): void {
  const fail = (detail: string): never => {
    throw new EngineError(`KV policy ${JSON.stringify(policy.name)} failed: ${detail}`);
  };
  if (policy.lossless) fail("it calls itself lossless and changed the cache");
  const { kv } = sequence, table = kv.tables[edit.group];
  if (table === undefined) return fail(`there is no group ${edit.group}`);
  const settledSlots = table.slotsBelow(kv.settled);
  switch (edit.op) {
    case "keep": {
      requireAscending(edit.slots, table.count, fail);
      const first = edit.slots.findIndex((slot) => slot >= settledSlots);
      const tentative = first < 0 ? 0 : edit.slots.length - first;
      if (tentative !== table.count - settledSlots) fail("it dropped tokens not yet committed");
      requireWholeGroups(edit.slots, table, fail);
      if (edit.slots.length < table.count) {
        keepSignals(kv, edit.group, table.count, edit.slots, host);
      }
      return keepSlots(kv, table, edit.slots, turns, host);
    }
    case "encode":
      if (!(edit.slots <= settledSlots)) fail("it encoded tokens not yet committed");
      if (table.encoded !== undefined && table.encoded.format !== edit.format) {
        fail("a sequence has one format besides f32");
      }
      if (edit.slots > table.firstPlain && edit.slots % groupTokens(edit.format) !== 0) {
        fail(`it encoded ${edit.slots} tokens, no whole groups of ${edit.format}`);
      }
      return encodeSlots(
        kv,
        table,
        edit.slots,
        { format: edit.format, signals: recordedBy(policy) },
        host,
      );
    case "read":
      if (edit.slots !== undefined) requireAscending(edit.slots, table.count, fail);
      table.read = edit.slots && { slots: edit.slots, from: settledSlots };
      return kv.edited();
  }
}

function requireAscending(
  slots: Uint32Array,
  count: number,
  fail: (detail: string) => never,
): void {
  let last = -1;
  for (const slot of slots) {
    if (slot <= last || slot >= count) fail("slots to keep must be ascending and valid");
    last = slot;
  }
}

/** Slots that are stored together stay or go together. */
function requireWholeGroups(
  slots: Uint32Array,
  { encoded }: KvTable,
  fail: (detail: string) => never,
): void {
  const size = encoded === undefined ? 1 : groupTokens(encoded.format);
  if (encoded === undefined || size === 1) return;
  for (let i = 0; i < slots.length && slots[i]! < encoded.count; i += size) {
    const first = slots[i]!;
    if (first % size !== 0 || slots[i + size - 1] !== first + size - 1) {
      fail(`it dropped a part of a group of ${encoded.format}`);
    }
  }
}

/** Signals that were read stay with their slots. */
function keepSignals(
  kv: SequenceKv,
  group: number,
  count: number,
  slots: Uint32Array,
  { layout }: ConsultHost,
): void {
  if (kv.signals === undefined) return;
  const kept = new Map<KvSignal, Float32Array[]>();
  for (const [name, heads] of kv.signals) {
    kept.set(
      name,
      heads.map((values, i) => {
        const head = i % layout.kvHeads, layer = (i - head) / layout.kvHeads;
        if (groupOf(layout, kv.shape.granularity, layer, head) !== group) return values;
        const width = values.length / count;
        const out = new Float32Array(slots.length * width);
        slots.forEach((slot, s) => {
          out.set(values.subarray(slot * width, (slot + 1) * width), s * width);
        });
        return out;
      }),
    );
  }
  kv.signals = kept;
}

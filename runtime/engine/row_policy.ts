/** What a row carries for its KV policy: what to record, what to read, what to report. */
import { nextConsult } from "../kv/consult.ts";
import type { KvSignal } from "../kv/policy.ts";
import { groupOf } from "../kv/units.ts";
import type { Answer, PageTables, Row, Want } from "./executor.ts";
import type { Group } from "./groups.ts";
import type { Sequence } from "./sequence.ts";

/** The part of a row that depends on its policy. */
export type PolicyFields = Pick<Row, "signals" | "rule" | "ruleFrom" | "adapter"> & {
  readonly signalWants: readonly SignalWant[];
};
type SignalWant = Extract<Want, { kind: "signal" }>;

/**
 * @param tables of the row
 * @param to position after the row's last token of the sequence itself
 * @param tree tokens of a tree after those
 */
export function policyFields(
  { leader, members, start }: Group,
  tables: PageTables,
  to: number,
  tree: number,
): PolicyFields {
  const { scope, promptLength } = leader;
  const { policy, rule } = scope;
  const recorded = recordsAt(leader, start) ? policy.signals.filter(isRecorded) : [];
  const { recordTo = Infinity } = scope.scheduleOf(promptLength);
  const isDue = policy.signals.length > 0 && leader.kv.settled < recordTo &&
    [leader, ...members].some((s) => isConsulted(s, to));
  return {
    ...recorded.length > 0 ? { signals: recorded } : {},
    ...rule === undefined
      ? {}
      : { rule, ruleFrom: rule.densePrefill ? Math.max(0, promptLength - start) : 0 },
    ...policy.adapter === undefined ? {} : { adapter: policy.adapter },
    signalWants: isDue ? signalWants(leader, tables, tree) : [],
  };
}

/** Whether a row from `start` on records about slots before it, so that it needs them for itself. */
export function isRecording(leader: Sequence, start: number): boolean {
  const { signals } = leader.scope.policy;
  if (signals.length === 0) return false;
  return signals.some((name) => name.startsWith("attention-")) && recordsAt(leader, start);
}

function recordsAt({ scope, promptLength }: Sequence, start: number): boolean {
  const { recordFrom = 0, recordTo = Infinity } = scope.scheduleOf(promptLength);
  return start >= recordFrom && start < recordTo;
}

/** Signals that attention records, unlike those read from the cache or given by adapters. */
function isRecorded(signal: KvSignal): boolean {
  return signal.startsWith("attention-") || signal === "key-norm" || signal === "query";
}

function isConsulted(sequence: Sequence, to: number): boolean {
  const schedule = sequence.scope.scheduleOf(sequence.promptLength);
  return sequence.settledAt(to) >= nextConsult(sequence, schedule, sequence.scope.policy);
}

/** Per signal, layer and head, those of encoded slots first. */
function signalWants(leader: Sequence, tables: PageTables, tree: number): SignalWant[] {
  const { scope: { policy, layout }, kv } = leader, { granularity } = kv.shape;
  const slots = kv.tables.map(({ encoded, plain }, group) => ({
    encoded: encoded && listSlots(encoded.pages, encoded.perPage, encoded.count),
    format: encoded?.format,
    plain: listSlots(plain.pages, plain.perPage, tables.counts[group]! - tree),
  }));
  const wants: SignalWant[] = [];
  for (const name of policy.signals) {
    for (let layer = 0; layer < layout.layers; layer++) {
      for (let kvHead = 0; kvHead < layout.kvHeads; kvHead++) {
        const { encoded, format, plain } = slots[groupOf(layout, granularity, layer, kvHead)]!;
        const want = { kind: "signal", name, layer, kvHead } as const;
        if (encoded !== undefined && format !== undefined) {
          wants.push({ ...want, slots: encoded, place: { granularity, format } });
        }
        wants.push({ ...want, slots: plain, place: { granularity, format: "f32" } });
      }
    }
  }
  return wants;
}

function listSlots(pages: readonly number[], perPage: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, slot) => {
    const offset = slot % perPage;
    return pages[(slot - offset) / perPage]! * perPage + offset;
  });
}

/** Gives the sequence what was read for its policy, if anything was. */
export function takeSignals(sequence: Sequence, row: Row, answers: readonly Answer[]): void {
  const { scope: { layout }, kv } = sequence;
  let signals: Map<KvSignal, Float32Array[]> | undefined;
  row.wants.forEach((want, i) => {
    const answer = answers[i];
    if (want.kind !== "signal" || answer?.kind !== "signal") return;
    signals ??= new Map();
    let heads = signals.get(want.name);
    if (heads === undefined) signals.set(want.name, heads = []);
    const at = want.layer * layout.kvHeads + want.kvHead;
    const before = heads[at];
    heads[at] = before === undefined ? answer.values : Float32Array.of(...before, ...answer.values);
  });
  if (signals !== undefined) kv.signals = signals;
}

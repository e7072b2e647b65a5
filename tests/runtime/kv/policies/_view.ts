/** Views of a cache for tests of policies by themselves. */
import type {
  KvEdit,
  KvGroup,
  KvModel,
  KvPolicy,
  KvSignal,
  KvView,
} from "../../../../runtime/kv/policy.ts";

export const layout = { layers: 1, kvHeads: 1, headDim: 2, pageSize: 16 };

/** A model with one layer and head. */
export function modelOf(change: Partial<KvModel> = {}): KvModel {
  return { layout, heads: 1, contextLength: 4096, separators: new Set([1]), ...change };
}

/** One group with these positions and signals. */
export function groupOf(
  positions: readonly number[],
  signals: Partial<Record<KvSignal, readonly number[]>> = {},
): KvGroup {
  const signal = (name: KvSignal) => {
    const values = signals[name];
    if (values === undefined) throw new RangeError(`no ${name}`);
    return Float32Array.from(values);
  };
  return {
    layers: [0, 1],
    kvHeads: [0, 1],
    positions: Uint32Array.from(positions),
    encoded: 0,
    signal,
    signalOf: signal,
  };
}

/** What a policy sees when everything is committed. */
export function viewOf(change: Partial<KvView> & Pick<KvView, "groups">): KvView {
  const last = change.groups[0]!.positions.at(-1) ?? -1;
  return { committed: last + 1, promptLength: last + 1, tokens: [], ...change };
}

/** The policy's state with these parameters, defaults filled in. */
export function started<S, P>(policy: KvPolicy<S, P>, params: unknown, model = modelOf()): S {
  const parsed = policy.params.parse(params);
  policy.check?.(parsed, model);
  return policy.init(model.layout, parsed, model);
}

/** Positions that are left after the edits of one consultation. */
export function keptAfter(view: KvView, edits: readonly KvEdit[], group = 0): number[] {
  const edit = edits.find((one) => one.op === "keep" && one.group === group);
  const positions = [...view.groups[group]!.positions];
  return edit?.op === "keep" ? [...edit.slots].map((slot) => positions[slot]!) : positions;
}

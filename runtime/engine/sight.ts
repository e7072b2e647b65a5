/**
 * Sight: which slots a row's tokens no longer see by the policy's rule, though they are still in
 * memory: pages are freed in larger steps than the rule goes.
 */
import type { PageTables } from "./executor.ts";
import type { Sequence } from "./sequence.ts";

const FOR_GOOD = 2 ** 32 - 1;

/**
 * Where a row from `start` has to end so that something is hidden from one token of it at most, on
 * backends that hide slots from whole rows.
 */
export function sightEnd(leader: Sequence, start: number, end: number): number {
  const { kv, scope } = leader;
  if (scope.policy.lifetime === undefined || !scope.hidesPerRow) return end;
  let stop = end;
  for (const position of kv.positions()) {
    if (position < start) stop = Math.min(stop, lifetimeOf(leader, position));
  }
  for (let position = start; position < stop; position++) {
    stop = Math.min(stop, lifetimeOf(leader, position));
  }
  return Math.max(start + 1, stop);
}

/**
 * What is hidden from a row's tokens, in the form the backend takes; nothing if all see all.
 *
 * @param ids of the new tokens, the first one at `start`; those of a tree last
 * @param depths of the tree's nodes below the row's other tokens
 */
export function hiddenFrom(
  leader: Sequence,
  start: number,
  ids: Uint32Array,
  depths: ArrayLike<number> = [],
): Pick<PageTables, "sight" | "read" | "readFrom"> {
  const { kv, scope } = leader;
  if (scope.policy.lifetime === undefined) return {};
  const own = ids.length - depths.length;
  const places = Uint32Array.from(
    ids,
    (_, i) => start + (i < own ? i : own + depths[i - own]!),
  );
  const before = kv.positions(), last = Math.max(...places);
  const until = new Uint32Array(before.length + ids.length);
  let isHidden = false;
  const set = (slot: number, lifetime: number) => {
    until[slot] = Math.min(lifetime, FOR_GOOD);
    isHidden ||= lifetime <= last;
  };
  before.forEach((position, slot) => set(slot, lifetimeOf(leader, position)));
  ids.forEach((id, i) => set(before.length + i, lifetimeOf(leader, places[i]!, id)));
  if (!isHidden) return {};
  if (!scope.hidesPerRow) return { sight: { until, places } };
  const read = before.map((_, slot) => slot).filter((slot) => until[slot]! > start);
  return { read: [read], readFrom: Uint32Array.of(before.length) };
}

function lifetimeOf(
  { scope, kv, tokens, promptLength }: Sequence,
  position: number,
  token: number = tokens[position]!,
): number {
  return scope.policy.lifetime!(kv.policyState, position, token, promptLength);
}

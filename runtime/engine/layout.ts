/** From a plan to a batch: pages are allocated, copied on write, and rows written down. */
import type { Work } from "./plan.ts";
import type { Ask, TreeQuery } from "./ask.ts";
import type { PageEdit, Row, Want } from "./executor.ts";
import type { Group } from "./groups.ts";
import { nextConsult } from "../kv/consult.ts";
import type { Sequence } from "./sequence.ts";
import { isRecording, policyFields } from "./row_policy.ts";
import { hiddenFrom, sightEnd } from "./sight.ts";

/** A row of the running step and whom it answers. */
export interface PlannedRow {
  readonly group: Group;
  readonly row: Row;
  /** Parallel to the row's first wants; what follows is signals for policies. */
  readonly asks: readonly Ask[];
  /** Position after the last token of the sequence itself in this row. */
  readonly to: number;
  readonly isFinal: boolean;
}

/** The tree of a group, if it has one. */
function treeOf(group: Group): TreeQuery | undefined {
  const { query } = group.asks[0]!;
  return query.kind === "tree" ? query : undefined;
}

/** A group in numbers, for the plan. */
export function workOf(group: Group): Work {
  const { leader, start, end } = group;
  const { kv, scope } = leader;
  const { pageSize } = kv.store;
  const slots = Math.max(0, kv.slotsBelow(start) - kv.tables[0]!.firstPlain);
  const last = slots % pageSize === 0 ? undefined : kv.pages[Math.floor(slots / pageSize)];
  const until = scope.policy.lossless
    ? end
    : sightEnd(leader, start, Math.min(end, nextStop(leader, start)));
  return {
    request: scope.id,
    tokens: until - start,
    atomic: until === end ? treeOf(group)?.tokens.length ?? 0 : 0,
    slots,
    copies: last !== undefined && kv.store.isShared(last),
    ...kv.shape.groups > 1 || isRecording(leader, start) ? { ragged: raggedOf(leader, start) } : {},
  };
}

/** Where a row must end: at the next consultation, and where recording begins. */
function nextStop(leader: Sequence, start: number): number {
  const schedule = leader.scope.scheduleOf(leader.promptLength);
  const { recordFrom = 0, recordTo = Infinity } = schedule;
  return Math.min(
    nextConsult(leader, schedule, leader.scope.policy) + leader.rollback,
    leader.nextMark(start),
    start < recordFrom ? recordFrom : Infinity,
    start < recordTo ? recordTo : Infinity,
  );
}

function raggedOf(leader: Sequence, start: number): NonNullable<Work["ragged"]> {
  const { kv } = leader;
  const { groups } = kv.shape;
  let copies = 0;
  const slots = kv.tables.map((table) => {
    const { plain } = table;
    const count = Math.min(plain.count, Math.max(0, table.slotsBelow(start) - table.firstPlain));
    const last = count % plain.perPage === 0
      ? undefined
      : plain.pages[Math.floor(count / plain.perPage)];
    if (last !== undefined && kv.store.isShared(last, groups)) copies++;
    return count;
  });
  return { slots, copies: isRecording(leader, start) ? kv.sharedCount : copies, spare: 0 };
}

/**
 * Writes down one row and reserves its pages. The leader holds nothing from the group's start on.
 *
 * @param tokens how many of the sequence's tokens
 * @param takesAll whether the plan took all the work there was
 * @param edits takes a copy-on-write, if one is needed
 */
export function layOut(
  group: Group,
  tokens: number,
  takesAll: boolean,
  edits: PageEdit[],
  allocate: (parts: number) => number,
): PlannedRow {
  const { leader, start, end } = group;
  const to = start + tokens;
  const isFinal = takesAll && to === end;
  const tree = isFinal ? treeOf(group) : undefined;
  const total = tokens + (tree?.tokens.length ?? 0);
  const { kv, scope } = leader;
  const { slots, copies } = kv.reserve(
    total,
    () => allocate(kv.shape.groups),
    isRecording(leader, start),
  );
  edits.push(...copies);
  leader.isBusy = true;
  const ids = new Uint32Array(total), positions = new Uint32Array(total);
  for (let i = 0; i < tokens; i++) {
    ids[i] = leader.tokens[start + i]!;
    positions[i] = start + i;
  }
  tree?.tokens.forEach((token, i) => {
    ids[tokens + i] = token;
    positions[tokens + i] = end + tree.depths[i]!;
  });
  if (scope.turns) { // a token's place is its slot
    const shift = kv.count - start;
    for (let i = 0; i < total; i++) positions[i]! += shift;
  }
  const { wants, asks } = wantsOf(group, to, isFinal);
  const tables = { ...kv.pageTables(total), ...hiddenFrom(leader, start, ids, tree?.depths) };
  const { signalWants, ...policy } = scope.policy.lossless
    ? { signalWants: [] }
    : policyFields(group, tables, to, total - tokens);
  const row: Row = {
    tokens: ids,
    positions,
    slots,
    tables,
    wants: [...wants, ...signalWants],
    ...policy,
    ...scope.turns ? { next: end } : {},
    ...tree === undefined ? {} : { treeMask: maskOf(tree, tokens) },
  };
  return { group, row, asks, to, isFinal };
}

function wantsOf(group: Group, to: number, isFinal: boolean): { wants: Want[]; asks: Ask[] } {
  const wants: Want[] = [], asks: Ask[] = [];
  for (const ask of group.asks) {
    const want = ask.want(to, isFinal);
    if (want === undefined) continue;
    wants.push(want);
    asks.push(ask);
  }
  return { wants, asks };
}

/** Which new tokens each new token sees: causal for the sequence, ancestors for the tree. */
function maskOf(tree: TreeQuery, before: number): Uint32Array {
  const total = before + tree.tokens.length;
  const words = Math.ceil(total / 32);
  const mask = new Uint32Array(total * words);
  const set = (row: number, bit: number) => {
    mask[row * words + (bit >>> 5)]! |= 1 << (bit & 31);
  };
  for (let row = 0; row < total; row++) {
    for (let bit = 0; bit < Math.min(row + 1, before); bit++) set(row, bit);
  }
  tree.parents.forEach((_, node) => {
    for (let at = node; at >= 0; at = tree.parents[at]!) set(before + node, before + at);
  });
  return mask;
}

/**
 * Consulting policies: when, and how their edits change a page table.
 *
 * A policy is consulted when the settled length crosses a page boundary, and when it reaches the end
 * of the prompt: points fixed by the sequence, so that results do not depend on load.
 */
import type { PageEdit } from "../engine/executor.ts";
import { EngineError, OutOfPagesError } from "../errors.ts";
import type { KvEdit, KvLayout, KvPolicy, KvView } from "./policy.ts";
import type { SequenceKv } from "./sequence_kv.ts";

/** The part of a sequence that consulting needs. */
export interface Consulted {
  readonly kv: SequenceKv;
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** How many tokens are settled when `computed` are computed. */
  settledAt(computed: number): number;
}

/** What a consultation needs from the engine. */
export interface ConsultHost {
  /** A page with one holder, or undefined if there is none. */
  allocate(): number | undefined;
  /** Pages to release once the edits have been applied. */
  readonly retired: number[];
  /** To apply before anything else touches the pool. */
  readonly edits: PageEdit[];
  readonly layout: KvLayout;
}

/** The settled length at which the policy is consulted next. */
export function nextConsult({ kv, promptLength }: Consulted, pageSize: number): number {
  const boundary = (Math.floor(kv.settled / pageSize) + 1) * pageSize;
  return kv.settled < promptLength ? Math.min(boundary, promptLength) : boundary;
}

/** Settles what has left the rollback window and consults the policy at each point on the way. */
export function settleKv(sequence: Consulted, policy: KvPolicy, host: ConsultHost): void {
  const { kv } = sequence;
  const settled = sequence.settledAt(kv.computed);
  while (kv.settled < settled) {
    const point = nextConsult(sequence, kv.store.pageSize);
    if (point > settled) break;
    kv.settled = point;
    const { state, edits } = policy.plan(kv.policyState, viewOf(sequence, host.layout));
    kv.policyState = state;
    for (const edit of edits) apply(edit, sequence, policy, host);
  }
  kv.settled = Math.max(kv.settled, settled);
}

function noSignal(name: string): Float32Array {
  throw new RangeError(`The policy did not declare the signal ${JSON.stringify(name)}`);
}

/** Built on demand: most policies look at little of it. */
function viewOf({ kv, tokens, promptLength }: Consulted, layout: KvLayout): KvView {
  const committed = kv.settled;
  return {
    committed,
    promptLength,
    get tokens() {
      return tokens.slice(0, committed);
    },
    get groups() {
      return [{
        layers: [0, layout.layers] as const,
        kvHeads: [0, layout.kvHeads] as const,
        positions: kv.positions(),
        signal: noSignal,
        signalOf: noSignal,
      }];
    },
  };
}

function apply(edit: KvEdit, sequence: Consulted, policy: KvPolicy, host: ConsultHost): void {
  const fail = (detail: string): never => {
    throw new EngineError(`KV policy ${JSON.stringify(policy.name)} failed: ${detail}`);
  };
  if (policy.lossless) fail("it calls itself lossless and changed the cache");
  if (edit.op !== "keep") return fail(`this engine cannot ${edit.op} pages`);
  if (edit.group !== 0) return fail(`there is no group ${edit.group}`);
  const { kv } = sequence;
  const positions = kv.positions();
  let last = -1, tentative = 0;
  for (const slot of edit.slots) {
    if (slot <= last || slot >= kv.count) fail("slots to keep must be ascending and valid");
    if (positions[slot]! >= kv.settled) tentative++;
    last = slot;
  }
  if (tentative !== kv.count - kv.slotsBelow(kv.settled)) {
    fail("it dropped tokens not yet committed");
  }
  keep(kv, positions, edit.slots, host);
}

/**
 * Keeps the given slots. Whole pages before the first dropped slot stay; pages without survivors
 * leave the table; other survivors are gathered into fresh pages, as a page may be shared.
 */
function keep(
  kv: SequenceKv,
  positions: Uint32Array,
  slots: Uint32Array,
  host: ConsultHost,
): void {
  if (slots.length === kv.count) return;
  const { pageSize } = kv.store;
  const whole = wholePages(slots, kv.count, pageSize);
  const gathered = slots.subarray(Math.min(slots.length, whole.length * pageSize));
  const fresh = allocateAll(Math.ceil(gathered.length / pageSize), kv, host);
  if (gathered.length > 0) {
    host.edits.push({
      op: "copy",
      from: gathered.map((slot) => kv.physical(slot)),
      to: gathered.map((_, i) => fresh[Math.floor(i / pageSize)]! * pageSize + i % pageSize),
    });
  }
  const kept = whole.map((page) => kv.pages[page]!);
  for (const page of kept) kv.store.share(page);
  const old = kv.replaceTable([...kept, ...fresh], Array.from(slots, (slot) => positions[slot]!));
  host.retired.push(...old);
}

/** @throws {OutOfPagesError} if there are not so many; then none is taken */
function allocateAll(count: number, kv: SequenceKv, host: ConsultHost): number[] {
  const pages: number[] = [];
  while (pages.length < count) {
    const page = host.allocate();
    if (page !== undefined) {
      pages.push(page);
      continue;
    }
    for (const taken of pages) kv.store.release(taken);
    // The old pages are needed until their survivors have been copied.
    throw new OutOfPagesError(kv.pages.length + count, kv.store.total);
  }
  return pages;
}

/** Table indices of the pages that hold the leading survivors and nothing else. */
function wholePages(slots: Uint32Array, count: number, pageSize: number): number[] {
  const pages: number[] = [];
  for (let i = 0; i + pageSize <= slots.length; i += pageSize) {
    const first = slots[i]!;
    const isWhole = first % pageSize === 0 && slots[i + pageSize - 1] === first + pageSize - 1;
    if (!isWhole || first + pageSize > count) break;
    pages.push(first / pageSize);
  }
  // The last page may stay although it is not full, if all of it survives.
  const rest = pages.length * pageSize;
  const first = slots[rest];
  const isTail = first !== undefined && first % pageSize === 0 &&
    slots.length - rest === count - first;
  if (isTail) pages.push(first / pageSize);
  return pages;
}

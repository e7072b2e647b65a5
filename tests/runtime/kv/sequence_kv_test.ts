import { assertEquals } from "@std/assert";
import type { PageEdit } from "../../../runtime/engine/executor.ts";
import { keepSlots, type RetiredPage } from "../../../runtime/kv/edits.ts";
import { PageStore } from "../../../runtime/kv/pages.ts";
import { SequenceKv } from "../../../runtime/kv/sequence_kv.ts";

function setUp(pages = 8) {
  const store = new PageStore(pages, 4);
  const allocate = () => store.allocate()!;
  const compute = (kv: SequenceKv, tokens: number) => {
    const reservation = kv.reserve(tokens, allocate);
    kv.advance(tokens);
    return reservation;
  };
  return { store, allocate, compute, kv: new SequenceKv(store, undefined) };
}
const same = (state: unknown) => state;

Deno.test("reserve() gives slots in the order of the sequence and new pages as they fill", () => {
  const { store, compute, kv } = setUp();
  const { slots: [slots], copies: [copy] } = compute(kv, 6);
  assertEquals([...slots!].map((slot) => slot % 4), [0, 1, 2, 3, 0, 1]);
  assertEquals([copy, kv.pages.length, store.free], [undefined, 2, 6]);
  assertEquals([...compute(kv, 2).slots[0]!], [kv.pages[1]! * 4 + 2, kv.pages[1]! * 4 + 3]);
  assertEquals([kv.pages.length, kv.count, kv.computed], [2, 8, 8]);
});

Deno.test("reserve() copies a shared, partly filled page and leaves the other's alone", () => {
  const { store, compute, kv } = setUp();
  compute(kv, 6);
  const fork = kv.fork(same);
  const before = [...kv.pages];
  const { slots: [slots], copies: [copy] } = compute(fork, 1);
  assertEquals(kv.pages, before);
  assertEquals(fork.pages[0], before[0]);
  const [, old] = before, [, own] = fork.pages;
  assertEquals([...copy!.from], [old! * 4, old! * 4 + 1]);
  assertEquals([...copy!.to], [own! * 4, own! * 4 + 1]);
  assertEquals([...slots!], [own! * 4 + 2]);
  assertEquals(compute(kv, 1).copies[0], undefined, "the other one has its page to itself now");
  store.check([kv.pages, fork.pages]);
});

Deno.test("reserve() does not copy a full shared page", () => {
  const { compute, kv } = setUp();
  compute(kv, 4);
  const fork = kv.fork(same);
  assertEquals(compute(fork, 1).copies[0], undefined);
  assertEquals(fork.pages[0], kv.pages[0]);
});

Deno.test("advance() gives back what was reserved and not used", () => {
  const { store, allocate, kv } = setUp();
  kv.reserve(9, allocate);
  kv.advance(2);
  assertEquals([kv.pages.length, kv.count, store.free], [1, 2, 7]);
});

Deno.test("truncate() returns pages and remembers nothing of them", () => {
  const { store, compute, kv } = setUp();
  compute(kv, 10);
  const { version } = kv;
  kv.truncate(20);
  assertEquals([kv.computed, kv.version === version], [10, true]);
  kv.truncate(5);
  assertEquals([kv.pages.length, kv.count, kv.computed, store.free], [2, 5, 5, 6]);
  assertEquals(kv.version === version, false);
});

Deno.test("adopt() takes another's beginning, down to part of a page", () => {
  const { store, compute, kv } = setUp();
  compute(kv, 10);
  const heir = new SequenceKv(store, undefined);
  compute(heir, 3);
  heir.adopt(kv, 6);
  assertEquals([heir.pages, heir.count, heir.computed], [kv.pages.slice(0, 2), 6, 6]);
  store.check([kv.pages, heir.pages]);
  heir.clear();
  kv.clear();
  assertEquals(store.free, 8);
});

Deno.test("keepSlots() separates positions from slots", () => {
  const { store, allocate, compute, kv } = setUp();
  compute(kv, 8);
  const host = {
    allocate,
    retired: [] as RetiredPage[],
    edits: [] as PageEdit[],
    slotsPerPage: () => 4,
  };
  keepSlots(kv, kv.tables[0]!, Uint32Array.of(0, 1, 2, 7), false, host);
  for (const { page } of host.retired) store.release(page);
  assertEquals(host.edits.map(({ from }) => from.length), [4]);
  assertEquals([...kv.positions()], [0, 1, 2, 7]);
  assertEquals([kv.count, kv.computed, kv.slotsBelow(7), kv.slotsBelow(3)], [4, 8, 3, 3]);
  compute(kv, 1);
  assertEquals([...kv.positions()], [0, 1, 2, 7, 8]);
  const fork = kv.fork(same);
  kv.truncate(8);
  assertEquals([[...kv.positions()], [...fork.positions()]], [[0, 1, 2, 7], [0, 1, 2, 7, 8]]);
  store.check([kv.pages, fork.pages]);
});

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { PageStore } from "../../../runtime/kv/pages.ts";

Deno.test("PageStore hands out every page once and says so when it is empty", () => {
  const store = new PageStore(3, 16);
  assertEquals(new Set([store.allocate(), store.allocate(), store.allocate()]), new Set([0, 1, 2]));
  assertEquals(store.allocate(), undefined);
  assertEquals(store.free, 0);
});

Deno.test("PageStore returns a page when its last holder releases it", () => {
  const freed: number[] = [];
  const store = new PageStore(2, 16, (page) => freed.push(page));
  const page = store.allocate()!;
  store.share(page);
  assertEquals(store.isShared(page), true);
  store.release(page);
  assertEquals([store.free, store.isShared(page), freed], [1, false, []]);
  store.release(page);
  assertEquals([store.free, freed], [2, [page]]);
  assertThrows(() => store.release(page), RangeError);
  assertThrows(() => store.share(page), RangeError);
});

Deno.test("PageStore refuses a pool without pages", () => {
  for (const [pages, size] of [[0, 16], [2.5, 16], [4, 0]]) {
    assertThrows(() => new PageStore(pages!, size!), RangeError);
  }
});

Deno.test("check() finds a page that is lost, held too often or forgotten", () => {
  const store = new PageStore(4, 16);
  const [a, b] = [store.allocate()!, store.allocate()!];
  store.share(b);
  store.check([[a, b], [b]]);
  assertThrows(() => store.check([[a, b]]), Error, "holders");
  assertThrows(() => store.check([[a, b], [b, a]]), Error, "holders");
  assertThrows(() => store.check([[a, b], [b], [3]]), Error, "holders");
});

Deno.test("PageStore conserves pages under random operations", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.array(fc.tuple(fc.constantFrom("new", "fork", "drop", "cut"), fc.nat()), {
        maxLength: 80,
      }),
      (total, steps) => {
        const store = new PageStore(total, 4);
        const tables: number[][] = [];
        for (const [action, n] of steps) {
          const table = tables[n % Math.max(1, tables.length)];
          if (action === "new" || table === undefined) {
            const page = store.allocate();
            assertEquals(page === undefined, new Set(tables.flat()).size === total);
            if (page !== undefined) tables.push([page]);
          } else if (action === "fork") {
            for (const page of table) store.share(page);
            tables.push([...table]);
          } else if (action === "cut") {
            const page = table.pop();
            if (page !== undefined) store.release(page);
          } else {
            for (const page of table) store.release(page);
            tables.splice(tables.indexOf(table), 1);
          }
          store.check(tables);
        }
      },
    ),
  );
});

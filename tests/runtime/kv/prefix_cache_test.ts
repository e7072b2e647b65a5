import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { PageStore } from "../../../runtime/kv/pages.ts";
import { type CachedPage, PrefixCache } from "../../../runtime/kv/prefix_cache.ts";

const SIZE = 2;

/** Puts the pages of `tokens` into the cache; the caller's own hold on them is given up. */
function remember(store: PageStore, cache: PrefixCache, namespace: string, tokens: number[]) {
  let parent: CachedPage | undefined;
  const held: number[] = [];
  for (let at = 0; at + SIZE <= tokens.length; at += SIZE) {
    const page = store.allocate();
    if (page === undefined) break;
    held.push(page);
    const node = cache.insert(namespace, parent, tokens, page);
    if (node === undefined) break;
    store.share(node.page);
    held.push(node.page);
    parent = node;
  }
  for (const page of held) store.release(page);
}

function lengthOf(cache: PrefixCache, namespace: string, tokens: number[]): number {
  return cache.match(namespace, tokens, tokens.length).length * SIZE;
}

Deno.test("match() finds the longest run of full pages", () => {
  const store = new PageStore(20, SIZE), cache = new PrefixCache(store, 20);
  remember(store, cache, "", [1, 2, 3, 4, 5]);
  assertEquals(lengthOf(cache, "", [1, 2, 3, 4, 5, 6]), 4);
  assertEquals(lengthOf(cache, "", [1, 2, 3, 9]), 2);
  assertEquals(lengthOf(cache, "", [1, 9, 3, 4]), 0);
  assertEquals(lengthOf(cache, "", [3, 4]), 0, "a page counts only after what stood before it");
  assertEquals(cache.match("", [1, 2, 3, 4], 3).length, 1, "only within the given length");
});

Deno.test("match() keeps namespaces apart", () => {
  const store = new PageStore(20, SIZE), cache = new PrefixCache(store, 20);
  remember(store, cache, "a", [1, 2, 3, 4]);
  assertEquals(lengthOf(cache, "b", [1, 2, 3, 4]), 0);
  remember(store, cache, "b", [1, 2]);
  assertEquals([lengthOf(cache, "a", [1, 2, 3, 4]), lengthOf(cache, "b", [1, 2, 3, 4])], [4, 2]);
});

Deno.test("insert() keeps the first page of equal content", () => {
  const store = new PageStore(20, SIZE), cache = new PrefixCache(store, 20);
  const first = store.allocate()!, second = store.allocate()!;
  assertEquals(cache.insert("", undefined, [1, 2], first)?.page, first);
  assertEquals(cache.insert("", undefined, [1, 2], second)?.page, first);
  assertEquals([cache.pages, store.refs(first), store.refs(second)], [1, 2, 1]);
});

Deno.test("evict() drops the least recently used leaf and nothing in use", () => {
  const store = new PageStore(20, SIZE), cache = new PrefixCache(store, 20);
  remember(store, cache, "", [1, 2, 3, 4]);
  remember(store, cache, "", [1, 2, 5, 6]);
  const [, used] = cache.match("", [1, 2, 3, 4], 4);
  store.share(used!.page);
  assertEquals(cache.evict(1), 1);
  assertEquals(lengthOf(cache, "", [1, 2, 5, 6]), 2, "the other leaf went, not the common page");
  assertEquals(cache.evict(5), 0, "the rest is in use or above what is in use");
  store.release(used!.page);
  assertEquals(cache.evict(5), 2);
  assertEquals([cache.pages, store.free], [0, 20]);
});

Deno.test("insert() makes room within its bound", () => {
  const store = new PageStore(20, SIZE), cache = new PrefixCache(store, 3);
  for (let i = 0; i < 10; i++) remember(store, cache, "", [i, i, i, i]);
  assert(cache.pages <= 3);
  assertEquals(lengthOf(cache, "", [9, 9, 9, 9]), 4);
  assertEquals(lengthOf(cache, "", [0, 0]), 0);
  const off = new PrefixCache(store, 0), page = store.allocate()!;
  assertEquals(off.insert("", undefined, [1, 2], page), undefined);
  assertEquals(store.refs(page), 1);
});

Deno.test("PrefixCache agrees with a list of all that was put in, and loses no page", () => {
  const tokens = fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 9 });
  const step = fc.tuple(fc.constantFrom("put", "put", "find", "evict"), tokens, fc.nat(1));
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const store = new PageStore(1000, SIZE), cache = new PrefixCache(store, 1000);
    const known = new Set<string>();
    let evicted = false;
    for (const [action, list, space] of steps) {
      const namespace = `${space}`;
      if (action === "put") {
        remember(store, cache, namespace, list);
        for (let n = SIZE; n <= list.length; n += SIZE) known.add(`${space} ${list.slice(0, n)}`);
      } else if (action === "evict") {
        evicted = cache.evict(2) > 0 || evicted;
      } else {
        let expected = 0;
        while (known.has(`${space} ${list.slice(0, expected + SIZE)}`)) {
          if (expected + SIZE > list.length) break;
          expected += SIZE;
        }
        const found = lengthOf(cache, namespace, list);
        assert(found <= expected, "nothing that was not put in");
        if (!evicted) assertEquals(found, expected);
      }
      store.check([cache.held()]);
    }
    cache.clear();
    assertEquals(store.free, 1000);
  }));
});

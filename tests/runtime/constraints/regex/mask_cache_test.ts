import { assertEquals } from "@std/assert";
import { MaskCache } from "../../../../runtime/constraints/regex/mask_cache.ts";

/** Keys in the order in which their masks had to be made. */
function made(cache: MaskCache, keys: string): string {
  let order = "";
  for (const key of keys) cache.get(key, () => order += key);
  return order;
}

Deno.test("MaskCache keeps the most recently used masks within its bytes", () => {
  // A mask is 4 bytes, its key 2: three fit.
  const cache = new MaskCache(1, 18);
  assertEquals(made(cache, "abcabc"), "abc");
  assertEquals(made(cache, "ad"), "d", "b is the oldest and makes room");
  assertEquals(made(cache, "acdb"), "b");
  assertEquals(made(cache, "cdb"), "", "a made room in turn");
  assertEquals(made(cache, "abcd"), "acd", "only b is still there");
  assertEquals(made(cache, "abcd"), "abcd", "one too many in a circle: none is found");
});

Deno.test("MaskCache keeps one mask whatever its size", () => {
  assertEquals(made(new MaskCache(100, 1), "aabba"), "aba");
});

Deno.test("MaskCache keeps no mask whose making failed", () => {
  const cache = new MaskCache(1, 18);
  const fail = () => {
    throw new RangeError("too much");
  };
  let thrown = 0;
  for (let i = 0; i < 2; i++) {
    try {
      cache.get("a", fail);
    } catch {
      thrown++;
    }
  }
  assertEquals(thrown, 2);
  assertEquals(made(cache, "a"), "a");
});

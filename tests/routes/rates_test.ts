import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { kvRateStore } from "../../rate_store_kv.ts";
import { memoryRateStore, type RateStore, settle, takeFrom } from "../../routes/rates.ts";

const budget = { name: "k:requests", limit: 60 };

/** The laws, over one store. */
function testStore(
  name: string,
  open: () => Promise<{ readonly store: RateStore; close(): void }>,
): void {
  const law = (what: string, run: (store: RateStore) => Promise<void>) =>
    Deno.test(`${name}: ${what}`, async () => {
      const { store, close } = await open();
      try {
        await run(store);
      } finally {
        close();
      }
    });

  law("a minute's budget can be spent at once, then it fills evenly", async (store) => {
    for (let i = 0; i < 60; i++) assertEquals((await takeFrom(store, budget, 1, 0)).waitSeconds, 0);
    const refused = await takeFrom(store, budget, 1, 0);
    assertEquals(refused, { limit: 60, remaining: 0, resetSeconds: 60, waitSeconds: 1 });
    assertEquals((await takeFrom(store, budget, 5, 2)).waitSeconds, 3);
    assertEquals((await takeFrom(store, budget, 5, 5)).waitSeconds, 0);
    assertEquals((await takeFrom(store, budget, 1, 1000)).remaining, 59);
  });

  law("what is settled comes back, or is owed", async (store) => {
    await takeFrom(store, budget, 60, 0);
    await settle(store, budget, 20, 0);
    assertEquals((await takeFrom(store, budget, 20, 0)).waitSeconds, 0);
    await settle(store, budget, -30, 0);
    assertEquals((await takeFrom(store, budget, 1, 30)).waitSeconds, 1);
    assertEquals((await takeFrom(store, budget, 1, 31)).waitSeconds, 0);
    await settle(store, budget, 1000, 31);
    assertEquals((await takeFrom(store, budget, 60, 31)).waitSeconds, 0);
  });

  law("more than a minute's budget counts as all of it", async (store) => {
    assertEquals((await takeFrom(store, budget, 500, 0)).waitSeconds, 0);
    assertEquals((await takeFrom(store, budget, 500, 0)).waitSeconds, 60);
  });

  law("callers at the same time never get more than there is", async (store) => {
    const all = await Promise.all(
      Array.from({ length: 20 }, () => takeFrom(store, { name: "k:t", limit: 8 }, 1, 0)),
    );
    assertEquals(all.filter(({ waitSeconds }) => waitSeconds === 0).length, 8);
  });

  law("a clock that goes back takes nothing away", async (store) => {
    await takeFrom(store, budget, 10, 100);
    assertEquals((await takeFrom(store, budget, 1, 0)).remaining, 49);
  });
}

testStore("memoryRateStore", () => Promise.resolve({ store: memoryRateStore(), close() {} }));

testStore("kvRateStore", async () => {
  const kv = await Deno.openKv(":memory:");
  return { store: kvRateStore(kv), close: () => kv.close() };
});

Deno.test("takeFrom() lets through at most the limit plus what fills in, over any times", async () => {
  const step = fc.record({ wait: fc.nat(40), amount: fc.integer({ min: 1, max: 30 }) });
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 50 }), async (steps) => {
    const store = memoryRateStore();
    let now = 0;
    let taken = 0;
    for (const { wait, amount } of steps) {
      now += wait;
      if ((await takeFrom(store, { name: "x", limit: 30 }, amount, now)).waitSeconds === 0) {
        taken += amount;
      }
      assert(taken <= 30 + now / 2 + 1e-6);
    }
  }));
});

import { assert, assertEquals, assertRejects } from "@std/assert";
import { UpstreamError } from "../../../runtime/mod.ts";
import { createRng, seedFrom } from "../../../runtime/rng.ts";
import { type Lease, Pool } from "../../../runtime/upstream/pool.ts";
import type { Replica, UpstreamSpec } from "../../../runtime/upstream/types.ts";
import { settle, testHost } from "./_support.ts";

const idle = new AbortController().signal;

function poolOf(replicas: readonly Partial<Replica>[], queue = 4) {
  const host = testHost(() => Promise.reject(new Error("not called")));
  const rng = createRng(seedFrom(3));
  const spec: Partial<UpstreamSpec> = {
    id: "up",
    queue,
    breaker: { failures: 2, openMs: 100 },
    replicas: replicas.map((replica, i) => ({
      url: `http://${i}.test/v1`,
      key: undefined,
      model: "m",
      weight: 1,
      priority: 0,
      maxConnections: 100,
      ...replica,
    })),
  };
  const pool = new Pool(spec as UpstreamSpec, { ...host, random: () => rng.next() });
  const acquire = (affinity?: string, tried: readonly number[] = [], signal = idle) =>
    pool.acquire({ signal, affinity, tried: new Set(tried) });
  return { pool, host, acquire };
}

Deno.test("Pool: the least loaded replica takes the next call, by weight", async () => {
  const { pool, acquire } = poolOf([{ weight: 1 }, { weight: 3 }]);
  for (let i = 0; i < 40; i++) await acquire();
  assertEquals(pool.states().map(({ running }) => running), [10, 30]);
});

Deno.test("Pool: idle replicas take calls in proportion to their weights", async () => {
  const { acquire } = poolOf([{ weight: 1 }, { weight: 3 }]);
  const counts = [0, 0];
  for (let i = 0; i < 4000; i++) {
    const lease = await acquire();
    counts[lease.index]!++;
    lease.release("done");
  }
  // 1000 expected, standard deviation 27: beyond 6 of them is one in 10^8.
  assert(Math.abs(counts[0]! - 1000) < 165, `${counts}`);
});

Deno.test("Pool: a conversation stays at its replica, and few move when one goes", async () => {
  const { acquire } = poolOf([{}, {}, {}, {}]);
  const place = async (key: string, tried: number[] = []) => {
    const lease = await acquire(key, tried);
    lease.release("done");
    return lease.index;
  };
  const keys = Array.from({ length: 200 }, (_, i) => `conversation ${i}`);
  const placeAll = async (tried: number[] = []) => {
    const places: number[] = [];
    for (const key of keys) places.push(await place(key, tried));
    return places;
  };
  const before = await placeAll();
  assertEquals(await placeAll(), before);
  assertEquals(new Set(before).size, 4);
  const after = await placeAll([2]);
  keys.forEach((_, i) => {
    if (before[i] === 2) assert(after[i] !== 2);
    else assertEquals(after[i], before[i]);
  });
});

Deno.test("Pool: a preferred replica that is much fuller than the others is passed over", async () => {
  const { pool, acquire } = poolOf([{}, {}]);
  for (let i = 0; i < 100; i++) await acquire("one key");
  const [a, b] = pool.states().map(({ running }) => running);
  // At most 1.25 of the mean, rounded up.
  assert(Math.max(a!, b!) <= 64 && Math.max(a!, b!) > 55, `${a} and ${b}`);
});

Deno.test("Pool: connections are limited, waiting is first come first served and bounded", async () => {
  const { acquire } = poolOf([{ maxConnections: 1 }], 2);
  const first = await acquire();
  const order: string[] = [];
  const second = acquire().then((lease) => (order.push("second"), lease));
  const third = acquire().then((lease) => (order.push("third"), lease));
  const error = await assertRejects(() => acquire(), UpstreamError, "all connections");
  assertEquals(error.kind, "busy");
  first.release("done");
  first.release("done"); // changes nothing
  (await second).release("done");
  (await third).release("done");
  assertEquals(order, ["second", "third"]);
});

Deno.test("Pool: who leaves the queue gives the place to the next", async () => {
  const { acquire } = poolOf([{ maxConnections: 1 }], 4);
  const first = await acquire();
  const abort = new AbortController();
  const gone = assertRejects(() => acquire(undefined, [], abort.signal), Error, "left");
  const next = acquire();
  await settle();
  abort.abort(new Error("left"));
  await gone;
  first.release("done");
  (await next).release("done");
});

Deno.test("Pool: replicas that are unwell are used only if no other can take a call", async () => {
  const { pool, host, acquire } = poolOf([{}, {}]);
  pool.mark(0, false);
  pool.mark(0, false);
  for (let i = 0; i < 5; i++) assertEquals((await acquire()).index, 1);
  pool.mark(1, false);
  assertEquals((await acquire()).index, 0);
  pool.mark(0, true);
  assertEquals((await acquire()).index, 0);
  assertEquals(host.events.map(({ event, replica }) => [event, replica]), [
    ["upstream_unhealthy", 0],
    ["upstream_unhealthy", 1],
    ["upstream_healthy", 0],
  ]);
});

Deno.test("Pool: spills to stand-ins when all others are full", async () => {
  const { acquire } = poolOf([{ maxConnections: 2 }, { priority: 1 }]);
  const leases: Lease[] = [];
  for (let i = 0; i < 4; i++) leases.push(await acquire());
  assertEquals(leases.map(({ index }) => index), [0, 0, 1, 1]);
});

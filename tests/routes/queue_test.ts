import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ApiError } from "../../routes/errors.ts";
import { createQueue, type Place, type Queue, type Ticket } from "../../routes/queue.ts";

const ticket = (key: string, extra: Partial<Ticket> = {}): Ticket => ({
  model: "m",
  key,
  modelRoom: { running: 2, queued: 4 },
  keyRoom: undefined,
  ...extra,
});

/** Takes a place and notes when it may be used. */
function enter(queue: Queue, name: string, order: string[], extra: Partial<Ticket> = {}): Place {
  const place = queue.enter(ticket(name[0]!, extra));
  if (place.ready) void place.ready.then(() => order.push(name));
  else order.push(name);
  return place;
}

const code = (run: () => unknown) => (assertThrows(run, ApiError) as ApiError).code;

Deno.test("createQueue() lets so many work, so many wait, and refuses the rest", () => {
  const queue = createQueue();
  const places = Array.from({ length: 6 }, () => queue.enter(ticket("")));
  assertEquals(places.map(({ ready }) => ready === undefined), [
    true,
    true,
    ...Array(4).fill(false),
  ]);
  assertEquals(queue.count("m"), { running: 2, waiting: 4 });
  const refused = assertThrows(() => queue.enter(ticket("")), ApiError) as ApiError;
  assertEquals([refused.status, refused.code], [429, "queue_full"]);
  assertEquals(refused.headers["retry-after"], "1");
  queue.enter(ticket("", { model: "other" }));
  places[3]!.leave(); // somebody in line
  assertEquals(queue.count("m"), { running: 2, waiting: 3 });
  places[0]!.leave();
  places[0]!.leave();
  assertEquals(queue.count("m"), { running: 2, waiting: 2 });
});

Deno.test("createQueue() serves one key in order of arrival", async () => {
  const queue = createQueue();
  const order: string[] = [];
  const places = ["a1", "a2", "a3", "a4", "a5"].map((name) => enter(queue, name, order));
  places[1]!.leave();
  places[0]!.leave();
  places[2]!.leave();
  await Promise.resolve();
  assertEquals(order, ["a1", "a2", "a3", "a4", "a5"]);
});

Deno.test("createQueue() gives a free place to the key that holds fewest", async () => {
  const queue = createQueue();
  const order: string[] = [];
  const places = ["a1", "a2", "a3", "a4", "b1", "c1"].map((name) => enter(queue, name, order));
  places[0]!.leave();
  await Promise.resolve();
  assertEquals(order, ["a1", "a2", "b1"]);
  places[1]!.leave();
  await Promise.resolve();
  assertEquals(order, ["a1", "a2", "b1", "c1"]);
  places[4]!.leave();
  await Promise.resolve();
  assertEquals(order.at(-1), "a3");
});

Deno.test("a key has places and a line of its own; others pass those that wait for its own", async () => {
  const queue = createQueue();
  const order: string[] = [];
  const keyRoom = { running: 1, queued: 1 };
  const first = enter(queue, "a1", order, { keyRoom });
  enter(queue, "a2", order, { keyRoom });
  assertEquals(code(() => queue.enter(ticket("a", { keyRoom }))), "concurrency_exceeded");
  enter(queue, "b1", order, { keyRoom });
  assertEquals(order, ["a1", "b1"]);
  first.leave();
  await Promise.resolve();
  assertEquals(order, ["a1", "b1", "a2"]);
});

Deno.test("places are never lost and limits never broken, whatever comes and goes", async () => {
  const step = fc.record({
    enter: fc.boolean(),
    key: fc.constantFrom("a", "b", "c"),
    model: fc.constantFrom("m", "n"),
    pick: fc.nat(1000),
  });
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const queue = createQueue();
    const open: { place: Place; works: boolean; key: string; model: string }[] = [];
    for (const { enter, key, model, pick } of steps) {
      if (enter) {
        const rooms = { modelRoom: { running: 3, queued: 4 }, keyRoom: { running: 2, queued: 2 } };
        try {
          const place = queue.enter({ model, key, ...rooms });
          const entry = { place, works: place.ready === undefined, key, model };
          void place.ready?.then(() => entry.works = true);
          open.push(entry);
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
        }
      } else if (open.length > 0) {
        open.splice(pick % open.length, 1)[0]!.place.leave();
      }
      await Promise.resolve();
      for (const name of ["m", "n"]) {
        const here = open.filter((entry) => entry.model === name);
        const running = here.filter(({ works }) => works).length;
        assertEquals(queue.count(name), { running, waiting: here.length - running });
        assertEquals(running <= 3, true);
      }
      for (const key of ["a", "b", "c"]) {
        assertEquals(open.filter((one) => one.key === key && one.works).length <= 2, true);
      }
      // Nobody waits for nothing: each waiter's model or key is full.
      for (const { works, key, model } of open) {
        if (works) continue;
        const busy = (test: (one: typeof open[number]) => boolean) =>
          open.filter((one) => one.works && test(one)).length;
        const isFull = busy((one) => one.model === model) === 3 ||
          busy((one) => one.key === key) === 2;
        assertEquals(isFull, true);
      }
    }
  }));
});

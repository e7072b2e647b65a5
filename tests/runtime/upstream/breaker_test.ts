import { assertEquals } from "@std/assert";
import { Breaker } from "../../../runtime/upstream/breaker.ts";

const policy = { failures: 3, openMs: 100 };

Deno.test("Breaker opens after so many failures in a row; a success starts the count anew", () => {
  const breaker = new Breaker(policy);
  breaker.failed(0);
  breaker.failed(0);
  breaker.succeeded();
  breaker.failed(0);
  breaker.failed(0);
  assertEquals([breaker.state(0), breaker.allows(0)], ["closed", true]);
  breaker.failed(0);
  assertEquals([breaker.state(99), breaker.allows(99), breaker.waitMs(40)], ["open", false, 60]);
});

Deno.test("Breaker half open lets one call try; its success closes, its failure opens for longer", () => {
  const breaker = new Breaker(policy);
  for (let i = 0; i < 3; i++) breaker.failed(0);
  assertEquals([breaker.state(100), breaker.allows(100)], ["half_open", true]);
  breaker.begin(100);
  assertEquals(breaker.allows(100), false);
  breaker.failed(100);
  assertEquals([breaker.state(299), breaker.state(300)], ["open", "half_open"]);
  breaker.begin(300);
  breaker.abandoned();
  assertEquals(breaker.allows(300), true);
  breaker.begin(300);
  breaker.succeeded();
  assertEquals([breaker.state(300), breaker.allows(300)], ["closed", true]);
});

Deno.test("Breaker stays open at most eight times as long", () => {
  const breaker = new Breaker({ failures: 1, openMs: 1 });
  let now = 0;
  const waits = Array.from({ length: 6 }, () => {
    breaker.failed(now);
    const wait = breaker.waitMs(now);
    now += wait;
    return wait;
  });
  assertEquals(waits, [1, 2, 4, 8, 8, 8]);
});

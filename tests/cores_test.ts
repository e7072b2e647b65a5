import { assert, assertEquals } from "@std/assert";
import { defaultThreads, threadsOfMachine } from "../cores.ts";

/** As Linux writes it. */
function cpuInfo(cores: readonly (readonly [socket: number, core: number])[]): string {
  return cores.map(([socket, core], processor) =>
    `processor\t: ${processor}\nphysical id\t: ${socket}\nsiblings\t: 2\ncore id\t\t: ${core}\n`
  ).join("\n");
}

Deno.test("defaultThreads() counts cores, not their threads, up to 4", () => {
  assertEquals(defaultThreads(4, cpuInfo([[0, 0], [0, 1], [0, 0], [0, 1]])), 2);
  assertEquals(defaultThreads(2, cpuInfo([[0, 0], [1, 0]])), 2);
  assertEquals(defaultThreads(16, cpuInfo(Array.from({ length: 16 }, (_, i) => [0, i]))), 4);
});

Deno.test("defaultThreads() never takes more than the process may use, and at least one", () => {
  assertEquals(defaultThreads(1, cpuInfo([[0, 0], [0, 1]])), 1);
  assertEquals(defaultThreads(3, "processor : 0\n\nprocessor : 1\n"), 3);
  assertEquals(defaultThreads(8, undefined), 4);
  assertEquals(defaultThreads(0, undefined), 1);
});

Deno.test("threadsOfMachine() is 1 to 4", () => {
  const threads = threadsOfMachine();
  assert(Number.isInteger(threads) && threads >= 1 && threads <= 4);
});

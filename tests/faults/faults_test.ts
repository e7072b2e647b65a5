import { assert, assertEquals } from "@std/assert";
import { modes } from "./modes.ts";
import { canary, complaints, lost, runFaults } from "./run.ts";

Deno.test("faults: every mode ends as it has to, nothing is lost, nothing stays open", async (t) => {
  const { trials, server, running, log } = await runFaults();
  for (const trial of trials) {
    await t.step(`${trial.mode.when}: ${trial.mode.name}`, () => {
      assertEquals(complaints(trial), []);
      assertEquals(lost(trial), 0);
    });
  }
  assertEquals(trials.length, modes.length);
  assertEquals([server.open, running], [0, 0]);
  assertEquals([...server.keys], [canary]);
  assert(!log.includes(canary) && !log.includes("127.0.0.1"), "the log tells a key or an address");
});

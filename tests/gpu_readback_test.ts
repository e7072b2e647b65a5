import { assert, assertEquals, assertRejects } from "@std/assert";
import { type FastReadback, fastReadback, readbackMode } from "../gpu_readback.ts";
import { ConfigError } from "../runtime/mod.ts";
import { testWithGpu } from "./_webgpu.ts";

const proven: FastReadback = {
  version: "2.9.6",
  os: "linux",
  prove: () => Promise.resolve(true),
};

Deno.test("readbackMode() takes fast only on tested versions and after a proof, else ring", async () => {
  assertEquals(await readbackMode("auto", proven), "fast");
  assertEquals(await readbackMode("auto", undefined), "ring");
  for (
    const change of [
      { version: "2.9.7" },
      { os: "darwin" },
      { prove: undefined },
      { prove: () => Promise.resolve(false) },
    ]
  ) {
    assertEquals(await readbackMode("auto", { ...proven, ...change }), "ring");
    const error = await assertRejects(
      () => readbackMode("fast", { ...proven, ...change }),
      ConfigError,
    );
    assert(error.message.startsWith('Invalid "gpu_readback"'), error.message);
  }
  assertEquals(await readbackMode("await", proven), "await");
});

testWithGpu("fastReadback() proves it in a process of its own", async () => {
  const fast = await fastReadback();
  assertEquals(fast.version, Deno.version.deno);
  if (fast.os !== "linux" || fast.version !== "2.9.6") return; // where it is never asked for
  assertEquals(await fast.prove!(), true);
});

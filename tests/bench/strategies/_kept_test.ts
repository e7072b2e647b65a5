import { assertEquals, assertRejects } from "@std/assert";
import { openKept } from "../../../bench/strategies/_kept.ts";

async function inFolder(use: (path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await use(`${folder}/part.jsonl`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const never = (): Promise<never> => Promise.reject(new Error("done already"));

Deno.test("openKept(): what was found is not measured again, what failed is", async () => {
  await inFolder(async (path) => {
    const first = await openKept(path, "a");
    assertEquals(first.found, 0);
    assertEquals(await first.once("one", () => Promise.resolve([1, 2])), [1, 2]);
    assertEquals(await first.once("one", never), [1, 2]);
    await assertRejects(() => first.once("two", never), Error, "done already");
    const second = await openKept(path, "a");
    assertEquals(second.found, 1);
    assertEquals(await second.once<number[]>("one", never), [1, 2]);
    assertEquals(await second.once("two", () => Promise.resolve(null)), null);
    assertEquals(await second.once("two", never), null);
    await second.done();
    await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
  });
});

Deno.test("openKept(): a line cut in the middle and results of another setup are measured again", async () => {
  await inFolder(async (path) => {
    const first = await openKept(path, "a");
    await first.once("one", () => Promise.resolve("kept"));
    await first.once("two", () => Promise.resolve("lost"));
    const text = await Deno.readTextFile(path);
    for (const cut of [1, 5, 20]) {
      await Deno.writeTextFile(path, text.slice(0, -cut));
      const second = await openKept(path, "a");
      assertEquals(await second.once("one", never), "kept");
      const isWhole = cut === 1; // only the line's end is gone
      assertEquals(second.found, isWhole ? 2 : 1);
      const again = await second.once("two", () => Promise.resolve("measured"));
      assertEquals(again, isWhole ? "lost" : "measured");
      assertEquals((await openKept(path, "a")).found, 2);
    }
    const other = await openKept(path, "b");
    assertEquals(other.found, 0);
    assertEquals(await other.once("one", () => Promise.resolve("other")), "other");
  });
});

Deno.test("openKept(): lines that are no results are left out", async () => {
  await inFolder(async (path) => {
    await Deno.writeTextFile(path, '[]\nnull\n{"setup":"a","unit":1,"value":2}\n');
    assertEquals((await openKept(path, "a")).found, 0);
    assertEquals(await Deno.readTextFile(path), "");
  });
});

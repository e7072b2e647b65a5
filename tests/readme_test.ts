import { assert, assertEquals } from "@std/assert";
import { fill, generatedParts } from "../bench/readme.ts";

const root = new URL("../", import.meta.url);
const readme = await Deno.readTextFile(new URL("README.md", root));

Deno.test("README.md has the current tables (else run bench/readme.ts)", async () => {
  assertEquals(fill(readme, await generatedParts()), readme);
});

Deno.test("links in the documents lead to files that exist", async () => {
  for (const name of ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]) {
    const text = await Deno.readTextFile(new URL(name, root));
    for (const [, target] of text.matchAll(/\]\(([^)#]+)\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const info = await Deno.stat(new URL(target!, root)).catch(() => undefined);
      assert(info, `${name} links to ${target}`);
    }
  }
});

Deno.test("README.md names every task it tells to run", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", root)));
  for (const [, task] of readme.matchAll(/deno(?:@[\d.]+)? task ([a-z:]+)/g)) {
    assert(Object.hasOwn(tasks, task!), `there is no task ${task}`);
  }
});

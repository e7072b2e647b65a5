/**
 * The floors: routes -> strategies -> runtime -> shaders. Imports go to the own floor or to the
 * right, and cross a floor only through its mod.ts. Walks the source files' import statements.
 */
import { assertEquals } from "@std/assert";

const floors = ["routes", "strategies", "runtime", "shaders"] as const;
const root = new URL("../", import.meta.url);

interface Edge {
  readonly from: string;
  readonly to: string;
}

async function* sources(folder: string): AsyncGenerator<string> {
  if (!await Deno.stat(new URL(folder, root)).catch(() => undefined)) return; // a floor to come
  for await (const entry of Deno.readDir(new URL(folder, root))) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) yield* sources(`${path}/`);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

/** Relative imports of one file, as paths from the root. */
async function edges(path: string): Promise<Edge[]> {
  const text = await Deno.readTextFile(new URL(path, root));
  const found = text.matchAll(/(?:^|\n)\s*(?:import|export)[^;]*?from\s+"(\.[^"]+)"/g);
  const dynamic = text.matchAll(/import\("(\.[^"]+)"\)/g);
  return [...found, ...dynamic].map((match) => ({
    from: path,
    to: new URL(match[1]!, new URL(path, root)).pathname.slice(root.pathname.length),
  }));
}

const floorOf = (path: string): string => path.split("/")[0]!;

async function allEdges(): Promise<Edge[]> {
  const all: Edge[] = [];
  for (const floor of floors) {
    for await (const path of sources(`${floor}/`)) all.push(...await edges(path));
  }
  return all;
}

Deno.test("imports never point to a floor on the left, nor outside the floors", async () => {
  const order = (path: string) => floors.indexOf(floorOf(path) as typeof floors[number]);
  const wrong = (await allEdges()).filter((e) => order(e.to) < order(e.from));
  assertEquals(wrong, []);
});

Deno.test("imports cross a floor through its mod.ts only", async () => {
  const wrong = (await allEdges()).filter((e) =>
    floorOf(e.from) !== floorOf(e.to) && e.to !== `${floorOf(e.to)}/mod.ts`
  );
  assertEquals(wrong, []);
});

Deno.test("the walk sees imports of every floor that has files", async () => {
  const seen = new Set((await allEdges()).map((e) => floorOf(e.from)));
  for (const floor of ["routes", "strategies", "runtime"]) {
    assertEquals(seen.has(floor), true, floor);
  }
});

Deno.test("below mod.ts nothing reads the environment, a wall clock or Math.random", async () => {
  const offenders: string[] = [];
  for (const floor of floors) {
    for await (const path of sources(`${floor}/`)) {
      const text = await Deno.readTextFile(new URL(path, root));
      const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/\/\/.*$/gm, "");
      if (/Deno\.env|Math\.random\(|Date\.now\(|new Date\(\)/.test(code)) offenders.push(path);
    }
  }
  assertEquals(offenders, []);
});

Deno.test("routes use web standards only, so that they run on every edge platform", async () => {
  const offenders: string[] = [];
  for await (const path of sources("routes/")) {
    const text = await Deno.readTextFile(new URL(path, root));
    const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/\/\/.*$/gm, "");
    if (/\bDeno\.|from "node:/.test(code)) offenders.push(path);
  }
  assertEquals(offenders, []);
});

Deno.test("zod is imported as a namespace, so that bundles drop what nobody uses", async () => {
  const offenders: string[] = [];
  for (const floor of floors) {
    for await (const path of sources(`${floor}/`)) {
      const text = await Deno.readTextFile(new URL(path, root));
      if (/import \{[^}]*\} from "zod"/.test(text)) offenders.push(path);
    }
  }
  assertEquals(offenders, []);
});

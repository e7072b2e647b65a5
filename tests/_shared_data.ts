/**
 * Real models, tokenizers and corpora used by some tests. They live beside the repository, not in
 * it: `../shared/data`, or where DECANT_SHARED_DATA points.
 */
const root = Deno.env.get("DECANT_SHARED_DATA") ??
  new URL("../../shared/data", import.meta.url).pathname;

/** Whether the data folder is there. */
export const hasSharedData: boolean = exists(root);

if (!hasSharedData && Deno.env.get("DECANT_REQUIRE_SHARED_DATA") === "1") {
  throw new Error("DECANT_REQUIRE_SHARED_DATA=1 but the shared test data is missing");
}

/** Path of one file in the data folder. */
export function sharedData(path: string): string {
  return `${root}/${path}`;
}

/** A test that is reported as ignored, with the reason in its name, where the data is missing. */
export function testWithSharedData(name: string, fn: () => void | Promise<void>): void {
  Deno.test({
    name: hasSharedData ? name : `${name} (ignored: shared test data not present)`,
    ignore: !hasSharedData,
    fn,
  });
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

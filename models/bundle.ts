/**
 * The second half of `deno task edge:bundle`: what stands beside `edge.js` where a model is to run
 * on the edge itself. An embedded model as a JavaScript module, the kernels as a file, and an entry
 * for Cloudflare Workers.
 */
import { builtModules } from "../runtime/backend/wasm/build.ts";

/** The files of a model as a module that exports `model`, an `EdgeModel`. */
export async function modelModule(id: string, folder: URL): Promise<string> {
  const text = (name: string) => Deno.readTextFile(new URL(name, folder));
  const texts = {
    config: await text("config.json"),
    tokenizer: await text("tokenizer.json"),
    tokenizerConfig: await text("tokenizer_config.json"),
    generation: await text("generation_config.json"),
  };
  const weights = await Deno.readFile(new URL("model.safetensors", folder));
  return [
    `const texts = ${JSON.stringify(texts)};`,
    `const weights = Uint8Array.fromBase64("${weights.toBase64()}");`,
    `export const model = { id: ${JSON.stringify(id)}, files: { ...texts, weights } };`,
    "",
  ].join("\n");
}

/** The entry for platforms that import a `.wasm` file as a compiled module. */
export function workerModule(id: string): string {
  return [
    `import kernels from "./kernels.wasm";`,
    `import { serveEdge } from "./edge.js";`,
    `import { model } from "./${id}.js";`,
    "",
    "export default serveEdge({ models: [model], kernels });",
    "",
  ].join("\n");
}

/** Writes everything into `target`. */
export async function writeEdgeFiles(id: string, target: URL): Promise<void> {
  const root = new URL("../", import.meta.url);
  const [kernels] = Object.keys(builtModules);
  await Deno.mkdir(target, { recursive: true });
  const folder = new URL(`models/${id}/`, root);
  await Deno.writeTextFile(new URL(`${id}.js`, target), await modelModule(id, folder));
  await Deno.writeTextFile(new URL("worker.js", target), workerModule(id));
  const bytes = await Deno.readFile(new URL(`runtime/backend/wasm/built/${kernels}`, root));
  await Deno.writeFile(new URL("kernels.wasm", target), bytes);
}

if (import.meta.main) {
  await writeEdgeFiles(Deno.args[0] ?? "decant-tiny-draft", new URL("../dist/", import.meta.url));
}

/**
 * All measurements of KV policies, one after the other; arguments go to each of them.
 *
 *     deno task bench:kv [--count 67] [--seeds 3] [--stories FILE] [--fresh]
 */
const argument = (name: string) => {
  const at = Deno.args.indexOf(`--${name}`);
  return at < 0 ? [] : Deno.args.slice(at, at + 2);
};
const stories = argument("stories");

async function run(file: string, args: readonly string[]): Promise<void> {
  const script = new URL(`./${file}`, import.meta.url);
  const worker = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--frozen",
      "--lock=deno.dev.lock",
      "--allow-read",
      "--allow-write=bench/results",
      "--allow-env",
      "--allow-sys",
      script.href,
      ...args,
    ],
  });
  const { success } = await worker.spawn().status;
  if (!success) Deno.exit(1);
}

const fresh = Deno.args.filter((arg) => arg === "--fresh");
await run("quality.ts", [...stories, ...argument("count"), ...argument("seeds"), ...fresh]);
await run("time.ts", []);
if (stories.length > 0) await run("stream.ts", stories);
await run("report.ts", []);

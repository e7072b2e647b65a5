/** A side's process as the parent sees it. */
import type { Profile } from "./_profile.ts";
import type { Answer, Command, LoadCommand, Memory, WorkCommand } from "./_side.ts";

/** A running side. */
export interface SideProcess extends AsyncDisposable {
  /** Milliseconds from the command to readiness; the process and its modules are there before. */
  load(options: LoadCommand): Promise<number>;
  work(options: WorkCommand): Promise<{ readonly ms: number; readonly argmax: readonly number[] }>;
  /** Where the time of a piece of work goes; undefined where the side cannot tell. */
  profile(options: WorkCommand): Promise<{ readonly ms: number; readonly profile?: Profile }>;
  memory(): Promise<Memory>;
  /** Processor time while it has nothing to do, in percent of one core. */
  idle(ms: number): Promise<number>;
}

/** Name of a side. */
export type SideName = "decant" | "llama" | "transformers";

/** Starts a side and waits until its modules are loaded. */
export async function startSide(name: SideName): Promise<SideProcess> {
  const script = new URL(`side_${name}.ts`, import.meta.url);
  const child = new Deno.Command(Deno.execPath(), {
    // No lock file: it would gain an entry for a package that only this process uses. All permissions:
    // native code has them anyway, and /proc, where memory is counted in parts, wants them.
    args: ["run", "--quiet", "--no-lock", "--no-check", "--allow-all", script.href],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const answers = readAnswers(child.stdout);
  const writer = child.stdin.getWriter();
  const ask = async (command: Command): Promise<Answer> => {
    await writer.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    const { value } = await answers.next();
    if (value === undefined) throw new Error(`The ${name} side ended`);
    if ("error" in value) throw new Error(`${name}: ${value.error}`);
    return value;
  };
  const timed = async (command: Command) => {
    const answer = await ask(command);
    if (!("ms" in answer)) throw new TypeError("Expected a time");
    const { ms, argmax = [], profile } = answer;
    return { ms, argmax, ...(profile === undefined ? {} : { profile }) };
  };
  const memory = async () => {
    const answer = await ask({ memory: true });
    if (!("memory" in answer)) throw new TypeError("Expected memory");
    return answer.memory;
  };
  await memory(); // answered once all modules are there
  return {
    load: async (options) => (await timed({ load: options })).ms,
    work: (options) => timed({ work: options }),
    profile: (options) => timed({ work: options, profile: true }),
    memory,
    async idle(ms) {
      const answer = await ask({ idleMs: ms });
      if (!("idlePercent" in answer)) throw new TypeError("Expected processor time");
      return answer.idlePercent;
    },
    async [Symbol.asyncDispose]() {
      await writer.close().catch(() => {}); // it may have ended by itself
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

async function* readAnswers(output: ReadableStream<Uint8Array>): AsyncGenerator<Answer> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of output) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line.startsWith("@")) yield JSON.parse(line.slice(1)) as Answer;
  }
}

/** What results say about where they were measured, and where they are written. */
import { cpus } from "node:os";
import type { Environment } from "./_report.ts";

/** Reads commit, device and versions. */
export async function readEnvironment(): Promise<Environment> {
  return {
    commit: await commitId(),
    date: new Date().toISOString().slice(0, 10),
    device: deviceName(),
    cores: navigator.hardwareConcurrency,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
  };
}

/** Writes bench/results/<date>-<device>-<what>.<extension> and returns its name. */
export async function writeResult(
  { date, device }: Environment,
  what: string,
  extension: string,
  text: string,
): Promise<string> {
  const short = device.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 32);
  await Deno.mkdir("bench/results", { recursive: true });
  const file = `bench/results/${date}-${short}-${what}.${extension}`;
  await Deno.writeTextFile(file, text);
  return file;
}

async function commitId(): Promise<string> {
  try {
    const head = (await Deno.readTextFile(".git/HEAD")).trim();
    if (!head.startsWith("ref: ")) return head.slice(0, 12);
    return (await Deno.readTextFile(`.git/${head.slice(5)}`)).trim().slice(0, 12);
  } catch {
    return "unknown";
  }
}

function deviceName(): string {
  return cpus()[0]?.model.trim() || `${Deno.build.os} ${Deno.build.arch}`;
}

/** How results come back from a GPU: without a wait only where that is known and shown to work. */
import { ConfigError } from "./runtime/mod.ts";
import type { ReadbackMode } from "./runtime/local.ts";

/** Versions of Deno, on Linux, whose inner workings "fast" relies on and was tested with. */
const tested = ["2.9.6"];

/** Whether this runtime may be asked for "fast", and may start a process to prove it. */
export interface FastReadback {
  readonly version: string;
  readonly os: string;
  /** Runs readback_proof.ts in a process of its own; undefined without the permission to run one. */
  readonly prove: (() => Promise<boolean>) | undefined;
}

/**
 * The mode that a setting stands for.
 *
 * @throws {ConfigError} if "fast" is asked for and cannot be shown to work
 */
export async function readbackMode(
  setting: "auto" | ReadbackMode,
  fast: FastReadback | undefined,
): Promise<ReadbackMode> {
  if (setting !== "auto" && setting !== "fast") return setting;
  const problem = await problemOf(fast);
  if (problem === undefined) return "fast";
  if (setting === "auto") return "ring";
  throw new ConfigError(
    "gpu_readback",
    `Invalid "gpu_readback": "fast" cannot be used: ${problem}`,
  );
}

async function problemOf(fast: FastReadback | undefined): Promise<string | undefined> {
  if (fast === undefined) return "nothing can prove it here";
  if (fast.os !== "linux" || !tested.includes(fast.version)) {
    return `Deno ${fast.version} on ${fast.os} is not among the tested ones (${tested}, linux)`;
  }
  if (fast.prove === undefined) return "the proof needs the permission --allow-run=deno";
  return await fast.prove() ? undefined : "the proof failed";
}

/**
 * Keeps Deno from falling back to OpenGL without a word where there is no Vulkan driver. To be called
 * before the GPU is looked for; does nothing without the permission, or where the variable is set.
 */
export async function requireVulkan(): Promise<void> {
  const variable = "DENO_WEBGPU_BACKEND";
  const { state } = await Deno.permissions.query({ name: "env", variable });
  if (Deno.build.os !== "linux" || state !== "granted") return;
  if (Deno.env.get(variable) === undefined) Deno.env.set(variable, "vulkan");
}

/** The proof for this process. */
export async function fastReadback(): Promise<FastReadback> {
  const path = Deno.execPath();
  const { state } = await Deno.permissions.query({ name: "run", command: path });
  const script = new URL("./runtime/backend/webgpu/readback_proof.ts", import.meta.url).href;
  const prove = async () => {
    const { success } = await new Deno.Command(path, {
      args: ["run", "--no-prompt", script],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  };
  return {
    version: Deno.version.deno,
    os: Deno.build.os,
    prove: state === "granted" ? prove : undefined,
  };
}

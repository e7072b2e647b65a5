/** What edge platforms use instead of local.ts: models from memory, in the thread of HTTP. */
import type { Backend } from "./backend/backend.ts";
import { createCpuBackend } from "./backend/cpu/mod.ts";
import { createWasmBackend } from "./backend/wasm/mod.ts";
import { ConfigError } from "./config.ts";
import type { NextTurn } from "./engine/step_loop.ts";

export {
  loadMemoryModel,
  type MemoryFiles,
  type MemoryModel,
  type MemoryModelOptions,
} from "./memory_model.ts";
export type { Backend } from "./backend/backend.ts";
export type { NextTurn } from "./engine/step_loop.ts";

/**
 * The backend that a setting stands for here. "auto" is WebAssembly where it may run, else the
 * reference in TypeScript.
 *
 * @param kernels the compiled kernels, for platforms that compile nothing at run time
 * @throws {ConfigError} if the setting names a backend that cannot run here
 */
export function edgeBackend(setting: string, kernels: WebAssembly.Module | undefined): Backend {
  if (setting === "cpu") return createCpuBackend();
  if (setting !== "auto" && setting !== "wasm") {
    throw new ConfigError("backend", `Invalid "backend": there is no "${setting}" on the edge`);
  }
  try {
    return createWasmBackend(kernels === undefined ? {} : { module: kernels });
  } catch (error) {
    if (setting === "auto" && error instanceof WebAssembly.CompileError) return createCpuBackend();
    throw new ConfigError(
      "backend",
      `Invalid "backend": WebAssembly cannot run here: ${(error as Error).message}`,
    );
  }
}

/** Steps in a row that may go without looking at sockets. */
const stepsPerTimer = 4;

/**
 * Turns for steps in the thread of HTTP. Deno looks at sockets between timers, but hardly between
 * immediates and never between messages of a channel; a timer costs it 2 ms. So most turns are
 * immediates, and one in {@link stepsPerTimer} is a timer. Where there are no immediates, all are.
 */
export function createEdgeTurns(): NextTurn {
  let turn = 0;
  const immediate = (globalThis as { setImmediate?: (run: () => void) => unknown }).setImmediate;
  return (run) => {
    if (immediate !== undefined && ++turn % stepsPerTimer !== 0) immediate(run);
    else setTimeout(run, 0);
  };
}

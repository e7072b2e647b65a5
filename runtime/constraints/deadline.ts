/** A wall-clock bound on code that does not yield. */
import vm from "node:vm";
import { DeadlineError, type WithDeadline } from "./deadline_error.ts";

/**
 * Stops the function itself when its time is over, loops without end and backtracking patterns
 * included: nothing is left running, which ending a Worker does not achieve in Deno 2.9. About 15 us
 * per call.
 */
export function createDeadline(): WithDeadline {
  const scope: { run: (() => unknown) | undefined } = { run: undefined };
  const context = vm.createContext(scope);
  const script = new vm.Script("run()");
  return <T>(run: () => T, limitMs: number): T => {
    let result: { readonly value: T } | undefined;
    scope.run = () => void (result = { value: run() });
    try {
      script.runInContext(context, { timeout: limitMs });
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw new DeadlineError(limitMs);
      throw error;
    } finally {
      scope.run = undefined;
    }
    return result!.value;
  };
}

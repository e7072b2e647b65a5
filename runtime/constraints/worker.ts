/** The Worker's side: compiles constraints and checks finished texts, one after the other. */
import { createTextCheck, type TextCheck } from "./check.ts";
import { createDeadline } from "./deadline.ts";
import { type CompileReply, type CompileRequest, plainFailure } from "./messages.ts";
import { compileConstraint } from "./spec.ts";

/** The part of the Worker's global scope that is used; the library types describe a page. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<CompileRequest>) => void) | null;
  postMessage(reply: CompileReply): void;
}
const scope = globalThis as unknown as WorkerScope;

const withDeadline = createDeadline();
/** The last few checks: the choices of one request share one. */
const checks = new Map<string, TextCheck>();
const maxChecks = 32;

function answer(request: CompileRequest): CompileReply {
  const { spec, limits, limitMs } = request;
  if (request.type === "compile") {
    const compiled = withDeadline(() => {
      const made = compileConstraint(spec, limits);
      checkOf(request);
      return made;
    }, limitMs);
    return { type: "compiled", compiled };
  }
  const isValid = withDeadline(() => checkOf(request)(request.text), limitMs);
  return { type: "checked", isValid };
}

/** The check of a constraint; one that cannot be made refuses it before anything is written. */
function checkOf({ spec, limits }: CompileRequest): TextCheck {
  const key = JSON.stringify(spec);
  let check = checks.get(key);
  if (!check) {
    check = createTextCheck(spec, limits);
    if (checks.size >= maxChecks) checks.delete(checks.keys().next().value!);
    checks.set(key, check);
  }
  return check;
}

scope.onmessage = ({ data }) => {
  try {
    scope.postMessage(answer(data));
  } catch (error) {
    scope.postMessage({ type: "failed", error: plainFailure(error) });
  }
};

/**
 * Jinja templates from model files, which are code from strangers, under budgets: source size,
 * steps, nesting, characters handled and output size. There is no clock, no attribute access beyond
 * the interpreter's own string, list and mapping methods, and nothing to call but what is given.
 *
 * The interpreter is @huggingface/jinja; its `evaluate` is wrapped to count.
 * Differs: `strip`, `lstrip`, `rstrip` take their argument into account, as Python does.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { FormatError, TemplateError } from "../errors.ts";
import { inspectTemplate, type TemplateFacts } from "./jinja_ast.ts";
import { createBudget } from "./jinja_budget.ts";
import { templateGlobals } from "./jinja_globals.ts";

const MAX_SOURCE = 2 ** 18;

/** A parsed template. */
export interface Jinja extends TemplateFacts {
  /**
   * Renders the template.
   *
   * @param variables JSON values and functions of JSON values
   * @throws {TemplateError} what the template raises, a mistake in it, or a budget exceeded
   */
  render(variables: Readonly<Record<string, unknown>>): string;
}

/**
 * Parses a template.
 *
 * @throws {FormatError} if it is malformed, longer than 262,144 characters, or uses `tojson` with a
 * computed width
 */
export function compileJinja(template: string, source: string): Jinja {
  if (template.length > MAX_SOURCE) {
    throw new FormatError(`${template.length} characters, at most ${MAX_SOURCE} are read`, {
      source,
    });
  }
  const { program, facts } = parseTemplate(template, source);
  return {
    ...facts,
    render: (variables) => {
      try {
        return run(program, variables);
      } catch (cause) {
        if (cause instanceof TemplateError) throw cause;
        const detail = cause instanceof Error ? cause.message : String(cause);
        throw new TemplateError(`Cannot render the chat template: ${detail}`, { cause });
      }
    },
  };
}

function parseTemplate(template: string, source: string) {
  try {
    const tokens = tokenize(template, { lstrip_blocks: true, trim_blocks: true });
    const program = parse(tokens);
    return { program, facts: inspectTemplate(program, source) };
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(detail, { source, cause });
  }
}

function run(
  program: ReturnType<typeof parse>,
  variables: Readonly<Record<string, unknown>>,
): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries({ ...templateGlobals, ...variables })) {
    environment.set(name, value);
  }
  const interpreter = new Interpreter(environment);
  const evaluate = interpreter.evaluate.bind(interpreter);
  const budget = createBudget(variables);
  interpreter.evaluate = (node, scope) => {
    budget.enter();
    const value = evaluate(node, scope);
    budget.leave(value);
    return value;
  };
  const { value } = interpreter.run(program);
  if (typeof value !== "string") throw new TemplateError("The chat template gave no text");
  return value;
}

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
import { MAX_OUTPUT, templateGlobals } from "./jinja_globals.ts";

const MAX_SOURCE = 2 ** 18;
const MAX_STEPS = 1_000_000;
const MAX_DEPTH = 250;
/** What an item of a list costs beside its text, in characters. */
const LIST_ITEM = 24;

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

interface Budget {
  enter(): void;
  leave(value: unknown): void;
}

/** Characters are charged per use, so that one long string in a long loop is counted as it costs. */
function createBudget(variables: Readonly<Record<string, unknown>>): Budget {
  const sizes = new WeakMap<object, number>();
  let steps = MAX_STEPS;
  let depth = 0;
  let characters = 4 * MAX_OUTPUT + 256 * sizeOfJson(variables);
  return {
    enter() {
      if (--steps < 0) throw new TemplateError(`The chat template takes over ${MAX_STEPS} steps`);
      if (++depth > MAX_DEPTH) throw new TemplateError("The chat template nests too deeply");
    },
    leave(value) {
      depth--;
      const size = sizeOfValue(value, sizes);
      characters -= size;
      if (size > MAX_OUTPUT || characters < 0) {
        throw new TemplateError("The chat template makes too much text");
      }
    },
  };
}

/**
 * Characters of a runtime value written out. A list is measured when it is first seen; that its items
 * are known by then keeps nested copies of copies from being walked through.
 */
function sizeOfValue(value: unknown, sizes: WeakMap<object, number>): number {
  if (typeof value !== "object" || value === null || !("value" in value)) return 0;
  const content = value.value;
  if (typeof content === "string") return content.length;
  if (!Array.isArray(content) && !(content instanceof Map)) return 0;
  if (sizes.has(value)) return 0;
  sizes.set(value, 0); // a namespace may hold itself
  let size = 2;
  for (const [key, item] of content.entries()) {
    const name = typeof key === "string" ? key.length : 0;
    size += LIST_ITEM + name + (knownSize(item, sizes) ?? 0);
  }
  sizes.set(value, size);
  return size;
}

function knownSize(item: unknown, sizes: WeakMap<object, number>): number | undefined {
  const own = sizeOfValue(item, sizes);
  return own > 0 || typeof item !== "object" || item === null ? own : sizes.get(item);
}

function sizeOfJson(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (Array.isArray(value)) return value.reduce((sum, item) => sum + sizeOfJson(item), 2);
  if (typeof value !== "object" || value === null) return 8;
  return Object.entries(value).reduce((sum, [key, item]) => sum + key.length + sizeOfJson(item), 2);
}

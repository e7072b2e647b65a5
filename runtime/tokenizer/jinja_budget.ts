/**
 * What a template may use up: steps, nesting, and characters. Characters are charged per use, so that
 * a long string in a long loop is counted as it costs.
 */
import { TemplateError } from "../errors.ts";
import { MAX_OUTPUT } from "./jinja_globals.ts";

const MAX_STEPS = 1_000_000;
const MAX_DEPTH = 250;
/** What an item of a list costs beside its text, in characters. */
const LIST_ITEM = 24;

/** Told about every expression and statement. Both methods throw a TemplateError. */
export interface Budget {
  enter(): void;
  /** Charges the value an expression gave. */
  leave(value: unknown): void;
}

/** A budget that grows with what the template is given. */
export function createBudget(variables: Readonly<Record<string, unknown>>): Budget {
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
      const size = charge(value, sizes);
      characters -= size;
      if (size > MAX_OUTPUT || characters < 0) {
        throw new TemplateError("The chat template makes too much text");
      }
    },
  };
}

/** Characters to charge for a value of the interpreter. A list is charged once, when it is new. */
function charge(value: unknown, sizes: WeakMap<object, number>): number {
  if (typeof value !== "object" || value === null || !("value" in value)) return 0;
  const content = value.value;
  if (typeof content === "string") return content.length;
  if (!Array.isArray(content) && !(content instanceof Map)) return 0;
  // The fields of a namespace change; each was charged where it was made.
  if (isNamespace(value)) return LIST_ITEM * [...content.values()].filter(requirePlain).length;
  if (sizes.has(value)) return 0;
  let size = 0;
  for (const [key, item] of content.entries()) {
    requirePlain(item);
    const name = typeof key === "string" ? key.length : 0;
    size += LIST_ITEM + name + sizeWritten(item, sizes);
  }
  sizes.set(value, size);
  return size;
}

/** Characters of a value written out; the sizes of lists in it are known by now or found out. */
function sizeWritten(item: unknown, sizes: WeakMap<object, number>): number {
  const charged = charge(item, sizes);
  return charged === 0 && typeof item === "object" && item !== null
    ? sizes.get(item) ?? 0
    : charged;
}

/** Lists do not change, so their sizes can be remembered; with a namespace inside they would. */
function requirePlain(item: unknown): true {
  if (!isNamespace(item)) return true;
  throw new TemplateError("The chat template puts a namespace into a list or a namespace");
}

function isNamespace(value: unknown): boolean {
  return typeof value === "object" && value !== null && "type" in value &&
    value.type === "NamespaceValue";
}

function sizeOfJson(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (Array.isArray(value)) return value.reduce((sum, item) => sum + sizeOfJson(item), 2);
  if (typeof value !== "object" || value === null) return 8;
  return Object.entries(value).reduce((sum, [key, item]) => sum + key.length + sizeOfJson(item), 2);
}

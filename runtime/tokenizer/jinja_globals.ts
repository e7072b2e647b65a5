/** The functions and constants of chat templates. Arguments are plain values, checked here. */
import { TemplateError } from "../errors.ts";

/** Longest text a template may make, in UTF-16 units. */
export const MAX_OUTPUT = 2 ** 24;
const MAX_RANGE = 10_000;

/** Everything a template can call. Names starting with "$" stand for rewritten methods and filters. */
export const templateGlobals: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  "raise_exception": (message: unknown) => {
    throw new TemplateError(`The chat template refuses the messages: ${String(message)}`);
  },
  range,
  $strip: (text: unknown, characters?: unknown) => strip(text, characters, true, true),
  $lstrip: (text: unknown, characters?: unknown) => strip(text, characters, true, false),
  $rstrip: (text: unknown, characters?: unknown) => strip(text, characters, false, true),
  $replace: replace,
  $indent: indent,
  $join: join,
};

/** Names that cannot be given as variables. */
export const reservedNames: ReadonlySet<string> = new Set([
  ...Object.keys(templateGlobals),
  "namespace",
  "strftime_now",
  "loop",
  "caller",
  "varargs",
  "kwargs",
]);

function range(first: unknown, second?: unknown, step: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (typeof start !== "number" || typeof stop !== "number" || typeof step !== "number") {
    throw new TemplateError("The chat template calls range() with something else than numbers");
  }
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new TemplateError(`range() gives over ${MAX_RANGE} numbers`);
  return Array.from({ length }, (_, i) => start + i * step);
}

function strip(text: unknown, characters: unknown, left: boolean, right: boolean): string {
  const value = stringOf(text);
  if (characters === undefined || characters === null) {
    return left ? (right ? value.trim() : value.trimStart()) : value.trimEnd();
  }
  const set = new Set(stringOf(characters));
  let start = 0;
  let end = value.length;
  while (left && start < end && set.has(value[start]!)) start++;
  while (right && end > start && set.has(value[end - 1]!)) end--;
  return value.slice(start, end);
}

function replace(text: unknown, ...args: unknown[]): string {
  const [from, to, count] = named(args, ["old", "new", "count"]);
  if (from === "") throw new TemplateError("The chat template replaces the empty string");
  const limit = typeof count === "number" && count >= 0 ? count : Infinity;
  const parts = stringOf(text).split(stringOf(from));
  const times = Math.min(limit, parts.length - 1);
  requireSize(stringOf(text).length + times * stringOf(to).length);
  const rest = parts.slice(times).join(stringOf(from));
  return [...parts.slice(0, times), rest].join(stringOf(to));
}

function indent(text: unknown, ...args: unknown[]): string {
  const [width = 4, first, blank] = named(args, ["width", "first", "blank"]);
  const margin = typeof width === "string" ? width : " ".repeat(widthOf(width));
  const lines = stringOf(text).split("\n");
  requireSize(stringOf(text).length + lines.length * margin.length);
  return lines.map((line, i) =>
    (i === 0 && !first) || (line === "" && !blank) ? line : margin + line
  )
    .join("\n");
}

function widthOf(width: unknown): number {
  if (typeof width === "number" && width >= 0 && width <= 1000) return width;
  throw new TemplateError("The chat template indents by something else than 0 to 1000 columns");
}

function join(items: unknown, ...args: unknown[]): string {
  const [separator = ""] = named(args, ["separator"]);
  const list = typeof items === "string" ? [...items] : items;
  if (!Array.isArray(list)) throw new TemplateError("The chat template joins what is not a list");
  const texts = list.map((item: unknown) => String(valueOf(item)));
  const length = texts.reduce((sum, part) => sum + part.length, 0);
  requireSize(length + texts.length * stringOf(separator).length);
  return texts.join(stringOf(separator));
}

/** Arguments in order. The interpreter passes keyword arguments as a map in the last place. */
function named(args: readonly unknown[], names: readonly string[]): unknown[] {
  const last = args.at(-1);
  const keywords: ReadonlyMap<unknown, unknown> = last instanceof Map ? last : new Map();
  const positional = last instanceof Map ? args.slice(0, -1) : args;
  if (
    positional.length > names.length || [...keywords.keys()].some((k) => !names.includes(`${k}`))
  ) {
    throw new TemplateError(`The chat template gives arguments other than ${names.join(", ")}`);
  }
  return names.map((name, i) => positional[i] ?? valueOf(keywords.get(name)));
}

/** What an interpreter's value holds. */
function valueOf(value: unknown): unknown {
  return typeof value === "object" && value !== null && "value" in value ? value.value : value;
}

function stringOf(value: unknown): string {
  if (typeof value === "string") return value;
  throw new TemplateError("The chat template calls a text method on something else");
}

function requireSize(length: number): void {
  if (length > MAX_OUTPUT) throw new TemplateError("The chat template makes too much text");
}

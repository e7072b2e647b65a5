/**
 * Constraints in the words of the engines that honour them. What an engine makes of them is checked
 * again when its text is finished; it is told them so that it need not fail.
 *
 * Sources: vLLM, "Structured Outputs"; SGLang, `CompletionRequest`; llama.cpp, server README,
 * `json_schema` and `grammar`; as of August 2026.
 */
import type { ConstraintSpec } from "../constraint_spec.ts";
import type { EngineName, UpstreamKind, UpstreamProfile } from "./types.ts";

type Fields = Record<string, unknown>;

/** Engines that take `structured_outputs`, where white space can be forbidden. */
const structured: ReadonlySet<EngineName> = new Set(["vllm", "decant"]);

/** Whether the engine can be told this form whole. */
export function takesFormat(
  { engine, formats }: Pick<UpstreamProfile, "engine" | "formats">,
  format: ConstraintSpec,
): boolean {
  if (!formats.has(format.kind)) return false;
  return format.kind !== "json_schema" || format.allowsSpace || structured.has(engine);
}

/** The fields of a request that ask for the form. Only for what {@link takesFormat} says it takes. */
export function formatFields(
  kind: UpstreamKind,
  engine: EngineName,
  format: ConstraintSpec,
): Fields {
  if (structured.has(engine)) return { structured_outputs: structuredOf(format) };
  if (engine === "sglang") return sglangFields(kind, format);
  if (engine === "llama.cpp") return llamaFields(format);
  return { response_format: schemaFormat(format) };
}

function structuredOf(format: ConstraintSpec): Fields {
  switch (format.kind) {
    case "json_schema":
      return {
        json: format.schema,
        ...format.allowsSpace ? {} : { disable_any_whitespace: true },
      };
    case "regex":
      return { regex: format.pattern };
    case "choice":
      return { choice: format.choices };
    case "grammar":
      return { grammar: format.grammar };
  }
}

function sglangFields(kind: UpstreamKind, format: ConstraintSpec): Fields {
  switch (format.kind) {
    case "json_schema":
      return kind === "chat"
        ? { response_format: schemaFormat(format) }
        : { json_schema: JSON.stringify(format.schema) };
    case "regex":
      return { regex: format.pattern };
    case "choice":
      return { regex: `(?:${format.choices.map(escaped).join("|")})` };
    case "grammar":
      return { ebnf: format.grammar };
  }
}

function llamaFields(format: ConstraintSpec): Fields {
  switch (format.kind) {
    case "json_schema":
      return { json_schema: format.schema };
    case "choice":
      return { grammar: `root ::= ${format.choices.map(literal).join(" | ")}` };
    case "grammar":
      return { grammar: format.grammar };
    case "regex":
      throw new RangeError("llama.cpp takes no regular expressions");
  }
}

function schemaFormat(format: ConstraintSpec): Fields {
  if (format.kind !== "json_schema") {
    throw new RangeError(`response_format cannot say ${format.kind}`);
  }
  return { type: "json_schema", json_schema: { name: "answer", schema: format.schema } };
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}

/** A text in GBNF. */
function literal(text: string): string {
  const inner = text.replace(
    /["\\\p{Cc}]/gu,
    (one) =>
      one === '"' || one === "\\"
        ? `\\${one}`
        : `\\u${one.codePointAt(0)!.toString(16).padStart(4, "0")}`,
  );
  return `"${inner}"`;
}

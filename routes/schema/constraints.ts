// deno-lint-ignore-file camelcase -- names as on the wire
/** Three ways to say what an answer must be, of which a request may use one. */
import * as z from "zod";
import type { ConstraintSpec } from "../../runtime/mod.ts";
import { invalidValue, missing, unsupported } from "../errors.ts";
import { jsonDepth } from "../json.ts";

const jsonSchemaName = /^[A-Za-z0-9_-]{1,64}$/;

const schema = z.union([z.record(z.string(), z.unknown()), z.boolean()]);

/** `response_format`. */
export const responseFormat = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object") }),
  z.looseObject({
    type: z.literal("json_schema"),
    json_schema: z.looseObject({
      name: z.string().regex(jsonSchemaName, "must be 1 to 64 of A-Z a-z 0-9 _ -"),
      description: z.string().nullish(),
      schema: z.record(z.string(), z.unknown()).nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

const choices = z.array(z.string()).min(1);

/** `structured_outputs`, as vLLM has it: exactly one of the kinds. */
export const structuredOutputs = z.looseObject({
  json: z.union([schema, z.string()]).nullish().describe("A JSON Schema, or its text."),
  json_object: z.boolean().nullish().describe("Any JSON object."),
  regex: z.string().nullish().describe("The whole answer matches this pattern."),
  choice: choices.nullish().describe("The answer is one of these texts."),
  grammar: z.string().nullish().describe("A grammar in GBNF; the answer is a root."),
  disable_any_whitespace: z.boolean().nullish().describe("No white space between parts of JSON."),
});

/** `decoding.constraint`. */
export const decodingConstraint = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("json_schema"),
    schema,
    whitespace: z.boolean().nullish().describe("Allow white space between parts. Default true."),
  }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({ type: z.literal("regex"), pattern: z.string() }),
  z.strictObject({ type: z.literal("choice"), choices }),
  z.strictObject({ type: z.literal("grammar"), grammar: z.string() }),
  z.strictObject({ type: z.literal("predicate"), name: z.string().min(1).max(64) }),
]);

/** The fields of a request that can hold a constraint. */
export const constraintFields = {
  response_format: responseFormat.nullish(),
  structured_outputs: structuredOutputs.nullish(),
};

/** A constraint as the request names it. */
export interface NamedConstraint {
  readonly spec: ConstraintSpec | { readonly kind: "predicate"; readonly name: string };
  /** Path of the field it came from, for errors. */
  readonly field: string;
}

/** What of a body is read here. */
export interface ConstraintBody {
  readonly response_format?: z.output<typeof responseFormat> | null | undefined;
  readonly structured_outputs?: z.output<typeof structuredOutputs> | null | undefined;
  readonly decoding?:
    | { readonly constraint?: z.output<typeof decodingConstraint> | null | undefined }
    | null
    | undefined;
}

/** @throws {ApiError} 400 if there is more than one constraint, or one we do not know */
export function readConstraint(body: ConstraintBody): NamedConstraint | undefined {
  const found = [
    fromResponseFormat(body.response_format ?? undefined),
    fromStructuredOutputs(body.structured_outputs ?? undefined),
    fromDecoding(body.decoding?.constraint ?? undefined),
  ].filter((constraint) => constraint !== undefined);
  const [first, second] = found;
  if (second) {
    const other = second.field.split(".").slice(0, second.field.startsWith("decoding") ? 2 : 1);
    throw invalidValue(
      other.join("."),
      "The request has two constraints: use one of response_format, structured_outputs and " +
        "decoding.constraint",
    );
  }
  return first;
}

const jsonSchema = (value: unknown, allowsSpace = true): ConstraintSpec => ({
  kind: "json_schema",
  schema: value,
  allowsSpace,
});
const anyObject = { type: "object" };

function fromResponseFormat(
  format: z.output<typeof responseFormat> | undefined,
): NamedConstraint | undefined {
  if (!format || format.type === "text") return undefined;
  if (format.type === "json_object") {
    return { spec: jsonSchema(anyObject), field: "response_format" };
  }
  const field = "response_format.json_schema.schema";
  const value = format.json_schema.schema ?? undefined;
  if (value === undefined) throw missing(field, `Missing ${field}`);
  return { spec: jsonSchema(value), field };
}

const kinds = ["json", "json_object", "regex", "choice", "grammar"] as const;
const options = new Set<string>([...kinds, "disable_any_whitespace"]);

function fromStructuredOutputs(
  outputs: z.output<typeof structuredOutputs> | undefined,
): NamedConstraint | undefined {
  if (!outputs) return undefined;
  for (const [name, value] of Object.entries(outputs)) {
    const isHarmless = value === null || value === undefined || value === false;
    if (options.has(name) || isHarmless) continue;
    throw unsupported(
      `structured_outputs.${name.slice(0, 64)}`,
      `structured_outputs has no ${JSON.stringify(name.slice(0, 64))} here; it takes one of ${
        kinds.join(", ")
      }`,
    );
  }
  const given = kinds.filter((kind) => (outputs[kind] ?? false) !== false);
  if (given.length !== 1) {
    throw invalidValue(
      "structured_outputs",
      `structured_outputs needs exactly one of ${kinds.join(", ")}`,
    );
  }
  const field = `structured_outputs.${given[0]}`;
  const allowsSpace = !(outputs.disable_any_whitespace ?? false);
  switch (given[0]!) {
    case "json":
      return { spec: jsonSchema(parsedSchema(outputs.json, field), allowsSpace), field };
    case "json_object":
      return { spec: jsonSchema(anyObject, allowsSpace), field };
    case "regex":
      return { spec: { kind: "regex", pattern: outputs.regex! }, field };
    case "choice":
      return { spec: { kind: "choice", choices: outputs.choice! }, field };
    case "grammar":
      return { spec: { kind: "grammar", grammar: outputs.grammar! }, field };
  }
}

/** Levels of a schema that is given as text. */
const maxTextDepth = 64;

function parsedSchema(value: unknown, field: string): unknown {
  if (typeof value !== "string") return value;
  // As deep as a body may be: it was a string there, so nobody has counted.
  if (jsonDepth(value, maxTextDepth) > maxTextDepth) {
    throw invalidValue(field, `${field} is nested deeper than ${maxTextDepth} levels`);
  }
  try {
    return JSON.parse(value);
  } catch {
    throw invalidValue(field, `${field} is not JSON`);
  }
}

function fromDecoding(
  constraint: z.output<typeof decodingConstraint> | undefined,
): NamedConstraint | undefined {
  if (!constraint) return undefined;
  const at = (key: string) => `decoding.constraint.${key}`;
  switch (constraint.type) {
    case "json_schema":
      return {
        spec: jsonSchema(constraint.schema, constraint.whitespace ?? true),
        field: at("schema"),
      };
    case "json_object":
      return { spec: jsonSchema(anyObject), field: "decoding.constraint" };
    case "regex":
      return { spec: { kind: "regex", pattern: constraint.pattern }, field: at("pattern") };
    case "choice":
      return { spec: { kind: "choice", choices: constraint.choices }, field: at("choices") };
    case "grammar":
      return { spec: { kind: "grammar", grammar: constraint.grammar }, field: at("grammar") };
    case "predicate":
      return { spec: { kind: "predicate", name: constraint.name }, field: at("name") };
  }
}

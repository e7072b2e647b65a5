/** Schemas with instances: MaskBench and the JSON Schema Test Suite. */

/** One instance of a schema. */
export interface Instance {
  readonly description: string;
  readonly isValid: boolean;
  /** Compact JSON; numbers as the file has them. */
  readonly text: string;
}

/** A schema and its instances. */
export interface SchemaCase {
  readonly name: string;
  readonly schema: unknown;
  readonly instances: readonly Instance[];
}

/** The runtime's types do not know the source text of numbers yet. */
interface SourceJson {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { readonly source: string }) => unknown,
  ): unknown;
  rawJSON(text: string): unknown;
}
const json = JSON as unknown as SourceJson;

/** Parses JSON so that writing it again keeps 1.0 and numbers no double can hold. */
function parseKeepingNumbers(text: string): unknown {
  return json.parse(
    text,
    (_, value, { source }) => typeof value === "number" ? json.rawJSON(source) : value,
  );
}

interface RawTest {
  readonly description?: string;
  readonly valid: boolean;
  readonly data: unknown;
}

interface RawCase {
  readonly description?: string;
  readonly schema: unknown;
  readonly tests?: readonly RawTest[];
}

function instancesOf({ tests = [] }: RawCase): Instance[] {
  return tests.map(({ description = "", valid, data }) => ({
    description,
    isValid: valid,
    text: JSON.stringify(data),
  }));
}

function filesOf(folder: string): string[] {
  const files = [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".json"));
  return files.map(({ name }) => name).sort();
}

/** The 458 schemas of MaskBench's sample in the data folder. */
export function maskBench(data: string): SchemaCase[] {
  const folder = `${data}/schemas/maskbench`;
  return filesOf(folder).map((name) => {
    const text = Deno.readTextFileSync(`${folder}/${name}`);
    const { schema } = JSON.parse(text) as RawCase;
    return { name, schema, instances: instancesOf(parseKeepingNumbers(text) as RawCase) };
  });
}

/** The required tests of one draft of the JSON Schema Test Suite. */
export function testSuite(data: string, draft: "draft2020-12" | "draft7"): SchemaCase[] {
  const folder = `${data}/schemas/JSON-Schema-Test-Suite/tests/${draft}`;
  return filesOf(folder).flatMap((file) => {
    const text = Deno.readTextFileSync(`${folder}/${file}`);
    const raw = parseKeepingNumbers(text) as RawCase[];
    return (JSON.parse(text) as RawCase[]).map(({ description = "", schema }, i) => ({
      name: `${file}: ${description}`,
      schema: draft === "draft7" ? withDraft7(schema) : schema,
      instances: instancesOf(raw[i]!),
    }));
  });
}

/** The suite's files say the draft by their folder. */
function withDraft7(schema: unknown): unknown {
  if (typeof schema !== "object" || schema === null || "$schema" in schema) return schema;
  return { $schema: "http://json-schema.org/draft-07/schema#", ...schema };
}

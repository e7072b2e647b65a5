/** MaskBench and the JSON Schema Test Suite: no invalid instance is ever accepted. */
import { assert, assertEquals } from "@std/assert";
import { maskBench, type SchemaCase, testSuite } from "../../../../bench/constraints/_cases.ts";
import { judge, noVerdicts } from "../../../../bench/constraints/_judge.ts";
import { createTextCheck } from "../../../../runtime/constraints/check.ts";
import { jsonSchemaConstraint } from "../../../../runtime/constraints/json/mod.ts";
import { createRng, type Rng, seedFrom, type Vocab } from "../../../../runtime/mod.ts";
import { sharedData, testWithSharedData } from "../../../_shared_data.ts";
import { fakeVocab } from "../../../fakes/mod.ts";

const data = sharedData("");

/** Valid instances that are refused on purpose, and why. */
const stricter: readonly [RegExp, string][] = [
  [/^format\.json/, "formats are checked here, not annotations"],
  [/^vocabulary\.json/, "a meta-schema without validation is not understood"],
  [/^const\.json: float and integers .* float is valid/, "more digits than a double keeps"],
];

function unexplained(wrong: readonly string[]): string[] {
  return wrong.filter((name) => !stricter.some(([known]) => known.test(name)));
}

function verdictsOf(cases: readonly SchemaCase[], withMasks = false) {
  const verdicts = noVerdicts();
  const vocab = fakeVocab();
  for (const suite of cases) judge(suite, verdicts, { vocab, clock: () => 0, withMasks });
  return verdicts;
}

testWithSharedData("MaskBench: every instance of what compiles is judged rightly", () => {
  const verdicts = verdictsOf(maskBench(data));
  assertEquals(verdicts.invalidAccepted, 0);
  assertEquals(verdicts.validAccepted, verdicts.valid);
  assertEquals(verdicts.wrong, []);
  assert(
    verdicts.compiled >= 451,
    `only ${verdicts.compiled} compile: ${JSON.stringify(verdicts.refused)}`,
  );
});

testWithSharedData("MaskBench, a tenth of it: masks allow what advance follows", () => {
  const verdicts = verdictsOf(maskBench(data).filter((_, i) => i % 10 === 0), true);
  assertEquals(verdicts.invalidAccepted, 0);
  assert(verdicts.maskUs.length > 1000);
});

testWithSharedData("JSON Schema Test Suite, draft 2020-12: no invalid instance is accepted", () => {
  const verdicts = verdictsOf(testSuite(data, "draft2020-12"));
  assertEquals(verdicts.invalidAccepted, 0);
  assertEquals(unexplained(verdicts.wrong), []);
  assert(verdicts.compiled >= 289, JSON.stringify(verdicts.refused));
});

testWithSharedData("JSON Schema Test Suite, draft 7: every instance is judged rightly", () => {
  const verdicts = verdictsOf(testSuite(data, "draft7"));
  assertEquals(verdicts.invalidAccepted, 0);
  assertEquals(unexplained(verdicts.wrong), []);
  assert(verdicts.compiled >= 234, JSON.stringify(verdicts.refused));
});

testWithSharedData("texts of random walks satisfy the second validator", () => {
  const rng = createRng(seedFrom(11));
  let whole = 0;
  for (const { name, schema } of maskBench(data).filter((_, i) => i % 9 === 0)) {
    const text = walk(schema, rng);
    if (text === undefined) continue;
    whole++;
    const accepts = createTextCheck({ kind: "json_schema", schema, allowsSpace: false });
    assert(accepts(text), `${name}: ${text}`);
  }
  assert(whole > 25, `only ${whole} walks came to an end`);
});

/** A text drawn byte by byte, containers closed soon; undefined if it does not end in time. */
function walk(schema: unknown, rng: Rng): string | undefined {
  const vocab: Vocab = fakeVocab();
  let constraint;
  try {
    constraint = jsonSchemaConstraint(schema, vocab, { allowsSpace: false });
  } catch {
    return undefined;
  }
  let state = constraint.start();
  const bytes: number[] = [];
  while (bytes.length < 600) {
    const allowed = allowedBytes(constraint, state, vocab);
    if (constraint.accepting(state)) return vocab.decode(bytes);
    if (allowed.length === 0) return undefined;
    const closing = allowed.filter((byte) => [0x22, 0x5d, 0x7d].includes(byte));
    const from = bytes.length > 40 && closing.length > 0 && rng.next() < 0.7 ? closing : allowed;
    const byte = from[Math.floor(rng.next() * from.length)]!;
    bytes.push(byte);
    state = constraint.advance(state, byte)!;
  }
  return undefined;
}

function allowedBytes<S>(
  constraint: { mask(state: S, out: Uint32Array): void },
  state: S,
  vocab: Vocab,
): number[] {
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  constraint.mask(state, bits);
  return Array.from({ length: 256 }, (_, byte) => byte)
    .filter((byte) => (bits[byte >> 5]! >>> (byte & 31) & 1) === 1);
}

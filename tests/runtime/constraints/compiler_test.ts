import { assert, assertEquals, assertRejects } from "@std/assert";
import { createConstraintCompiler } from "../../../runtime/constraints/compiler.ts";
import { createDeadline } from "../../../runtime/constraints/deadline.ts";
import { DeadlineError } from "../../../runtime/constraints/deadline_error.ts";
import { predicateConstraint } from "../../../runtime/constraints/predicate.ts";
import { ConstraintTooComplexError } from "../../../runtime/constraints/regex/mod.ts";
import { constraintLimits, type ConstraintSpec } from "../../../runtime/constraints/spec.ts";
import { createCompileWorker } from "../../../runtime/constraints/worker_channel.ts";
import { FormatError } from "../../../runtime/errors.ts";
import { testConstraint } from "../../conformance/constraint.ts";
import { fakeVocab } from "../../fakes/mod.ts";

const specs: readonly ConstraintSpec[] = [
  { kind: "json_schema", schema: { enum: ["a", 1] }, allowsSpace: false },
  { kind: "regex", pattern: "[ab]{2}" },
  { kind: "choice", choices: ["yes", "no"] },
  { kind: "grammar", grammar: 'root ::= "x" root | "y"' },
];
const texts = [['"a"', '"b"'], ["ab", "a"], ["no", "n"], ["xxy", "xx"]];

for (const thread of ["this thread", "a Worker"]) {
  Deno.test(`createConstraintCompiler compiles and checks every kind in ${thread}`, async () => {
    const vocab = fakeVocab();
    const channel = thread === "a Worker" ? createCompileWorker() : undefined;
    const compiler = createConstraintCompiler({ channel });
    for (const [i, spec] of specs.entries()) {
      const { constraint } = await compiler.constraint(spec, vocab, "");
      const [good, bad] = texts[i]!;
      const read = (text: string) => {
        let state: unknown = constraint.start();
        for (const token of vocab.encode(text)) {
          if (state !== undefined) state = constraint.advance(state, token);
        }
        return state !== undefined && constraint.accepting(state);
      };
      assertEquals([read(good!), read(bad!)], [true, false], spec.kind);
      assertEquals(await compiler.accepts(spec, good!), true, spec.kind);
      assertEquals(await compiler.accepts(spec, bad!), false, spec.kind);
    }
    const broken: ConstraintSpec = { kind: "regex", pattern: "(" };
    const error = await assertRejects(() => compiler.constraint(broken, vocab, ""), FormatError);
    assert(error.message.includes("offset"), error.message);
    const deep: ConstraintSpec = { kind: "grammar", grammar: `root ::= ${"(".repeat(999)}` };
    await assertRejects(() => compiler.constraint(deep, vocab, ""), ConstraintTooComplexError);
    compiler.close();
  });
}

Deno.test("createConstraintCompiler stops a compilation that takes too long, and goes on", async () => {
  const vocab = fakeVocab();
  const channel = createCompileWorker();
  const loose = {
    ...constraintLimits.schema,
    maxStates: 1e9,
    maxCompileSteps: 1e12,
    maxBytes: 1e9,
  };
  const limits = { ...constraintLimits, schema: { ...loose, maxEnumValues: 1e9 } };
  const compiler = createConstraintCompiler({ channel, limits, limitMs: 20 });
  const values = Array.from({ length: 60_000 }, (_, i) => `${"x".repeat(40)}${i}`);
  const heavy: ConstraintSpec = {
    kind: "json_schema",
    schema: { enum: values },
    allowsSpace: true,
  };
  const order: string[] = [];
  const compiled = compiler.constraint(heavy, vocab, "").finally(() => order.push("compiled"));
  for (let turn = 0; turn < 5; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    order.push("turn");
  }
  const error = await assertRejects(() => compiled, ConstraintTooComplexError);
  assertEquals(order, [...Array(5).fill("turn"), "compiled"], "the thread of HTTP goes on");
  assert(error.message.includes("ms of compiling"), error.message);
  const { constraint } = await compiler.constraint({ kind: "regex", pattern: "a" }, vocab, "");
  assertEquals(constraint.name, "regex");
  compiler.close();
});

Deno.test("createConstraintCompiler remembers by content, vocabulary and tenant, and not for ever", async () => {
  const compiler = createConstraintCompiler({ entries: 2 });
  const [one, two] = [fakeVocab(), fakeVocab({ chat: false })];
  const spec = (pattern: string): ConstraintSpec => ({ kind: "regex", pattern });
  const get = async (pattern: string, vocab = one, tenant = "a") =>
    (await compiler.constraint(spec(pattern), vocab, tenant)).constraint;
  const first = await get("a");
  assert(await get("a") === first);
  assert(await get("a", two) !== first);
  assert(await get("a", one, "b") !== first);
  assert(await get("b") !== first);
  await get("c");
  assert(await get("a") !== first, "it was used longest ago and must be gone");
});

Deno.test("createDeadline stops loops without end and passes everything else on", () => {
  const withDeadline = createDeadline();
  const error = (run: () => unknown) => {
    try {
      withDeadline(run, 20);
    } catch (thrown) {
      return thrown;
    }
  };
  assertEquals(withDeadline(() => [1], 1000), [1]);
  assert(
    error(() => {
      for (;;);
    }) instanceof DeadlineError,
  );
  assert(
    error(() => {
      throw new RangeError("x");
    }) instanceof RangeError,
  );
  assertEquals(withDeadline(() => 2, 1000), 2);
});

testConstraint("predicateConstraint", () => {
  const vocab = fakeVocab({ pieces: ["a", "é", "éé"] });
  const predicate = {
    prefix: (text: string) => /^é{0,2}$/.test(text),
    complete: (text: string) => text.length === 2,
  };
  return {
    vocab,
    constraint: predicateConstraint("p", predicate, vocab, {
      withDeadline: (run) => run(),
      limitMs: 1,
    }),
    accepts: (text) => text === "éé",
    accepted: ["éé"],
    refused: ["", "é", "ééé", "a"],
    walkTokens: 4,
  };
});

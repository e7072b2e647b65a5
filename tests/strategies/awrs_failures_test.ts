import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type Constraint,
  ConstraintError,
  ConstraintTooComplexError,
  predicateConstraint as modulePredicate,
  regexConstraint,
} from "../../runtime/mod.ts";
import { createDeadline } from "../../runtime/constraints/deadline.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, predicateConstraint } from "../fakes/mod.ts";
import { awrs, judged, run, toy, vocab } from "./_awrs_toy.ts";

Deno.test("an unsatisfiable constraint, and one that gives up, end with a ConstraintError", async () => {
  const nothing = predicateConstraint({ vocab, viable: () => false, accepting: () => false });
  for (const params of [{}, { n_particles: 3 }, { estimator: "mask" }, { max_rejects: 2 }]) {
    const error = await assertRejects(() => run(params, 1, nothing), ConstraintError, "no token");
    assertEquals(error.constraint, "predicate");
  }
  await assertRejects(() => run({ max_rejects: 2 }, 1, nothing), ConstraintError, "max_rejects 2");
  // The filter keeps "a" alone, which is not allowed; the mask would have come before it.
  const other = requestOf(awrs, toy(), {
    constraint: predicateConstraint({
      vocab,
      viable: (text) => text === "b",
      accepting: () => true,
    }),
    prompt: [3],
    sampling: { topK: 1 },
  });
  await assertRejects(() => runToEnd(other), ConstraintError, "top_k");
  // Viable prefixes that lead nowhere.
  const corner = predicateConstraint({
    vocab,
    viable: (text) => text.length < 3,
    accepting: () => false,
  });
  await assertRejects(() => run({ n_particles: 3 }, 1, corner, 20), ConstraintError, "3 particles");
});

Deno.test("a particle in a corner dies, the others go on", async () => {
  const corner = predicateConstraint({
    vocab,
    viable: (text) => ["", "a", "b", "ba"].includes(text),
    accepting: (text) => text === "ba",
  });
  let dead = 0;
  for (let seed = 0; seed < 30; seed++) {
    const { text, choices } = await run({ n_particles: 50, ess_threshold: 0 }, seed, corner);
    assertEquals(text, "ba");
    dead += 50 - choices[0]!["particles"]!;
  }
  assert(dead > 1000, `${dead}`);
});

Deno.test("a constraint that throws, at any call, ends with a ConstraintError that says where", async () => {
  const fine = judged();
  const boom = () => {
    throw new TypeError("broken predicate");
  };
  const broken: Readonly<Record<string, Constraint>> = {
    start: { ...fine, start: boom },
    token: { ...fine, advance: boom },
    complete: { ...fine, accepting: boom },
  };
  for (const [where, constraint] of Object.entries(broken)) {
    for (const params of [{}, { n_particles: 3 }]) {
      const error = await assertRejects(() => run(params, 1, constraint), ConstraintError, where);
      assert(error.cause instanceof TypeError);
    }
  }
  const { vocab: letters } = hashModel();
  const heavy: Constraint = {
    ...regexConstraint("[a-p ]*", letters),
    advance: () => {
      throw new ConstraintTooComplexError("maxMaskSteps", 1);
    },
  };
  await assertRejects(
    () => runToEnd(requestOf(awrs, hashModel({ stopBias: -Infinity }), { constraint: heavy })),
    ConstraintError,
  );
});

Deno.test("a predicate of the configuration is asked about few tokens; one that never returns is stopped", async () => {
  const model = () => hashModel({ spread: 20, stopBias: -Infinity });
  let asked = 0;
  const options = { withDeadline: createDeadline(), limitMs: 20 };
  const shortWords = modulePredicate(
    "short-words",
    {
      prefix: (text) => ++asked > 0 && !/[a-p]{9}/.test(text),
      complete: () => false,
    },
    model().vocab,
    options,
  );
  const { choices: [choice] } = await runToEnd(
    requestOf(awrs, model(), { constraint: shortWords, maxTokens: 200 }),
  );
  assertEquals([choice!.tokens.length, /[a-p]{9}/.test(choice!.text)], [200, false]);
  assert(asked < 800, `${asked} questions for 200 tokens of 17 letters`);
  const endless = modulePredicate(
    "endless",
    {
      complete: () => false,
      prefix(text) {
        for (;;) if (text.length < 3) return true;
      },
    },
    model().vocab,
    options,
  );
  for (const params of [{}, { n_particles: 3 }, { estimator: "mask" }]) {
    const request = requestOf(awrs, model(), { constraint: endless, params });
    const error = await assertRejects(() => runToEnd(request), ConstraintError, "was stopped");
    assertEquals(error.constraint, "endless");
  }
});

Deno.test("a long search looks at the event loop, so that an abort ends it", async () => {
  const pieces = Array.from({ length: 3000 }, (_, i) => `<${i}>`);
  const model = hashModel({ vocab: fakeVocab({ pieces, chat: false }), spread: 0.1 });
  const abort = new AbortController();
  let asked = 0;
  const constraint = predicateConstraint({
    vocab: model.vocab,
    viable() {
      if (++asked === 10) setImmediate(() => abort.abort(new Error("gone")));
      return false;
    },
    accepting: () => false,
  });
  await assertRejects(
    () =>
      runToEnd(requestOf(awrs, model, {
        constraint,
        params: { estimator: "recursive" },
        signal: abort.signal,
        prompt: [1],
      })),
    Error,
    "gone",
  );
  assert(asked < 1000, `${asked} questions after the abort`);
});

Deno.test("parameters that do not go together are refused by name", () => {
  const refuse = (params: Record<string, unknown>) =>
    assertThrows(
      () => runStrategy(requestOf(awrs, toy(), { params, prompt: [3] })),
      StrategyParamError,
    ).param;
  assertEquals(refuse({ proper_weights: false, n_particles: 2 }), "n_particles");
  assertEquals(refuse({ estimator: "two-loop", max_rejects: 9 }), "max_rejects");
  assertEquals(refuse({ estimator: "recursive", max_accepts: 3 }), "max_accepts");
  assertEquals(refuse({ n_particles: 65 }), "n_particles");
  assertEquals(refuse({ max_rejects: 1 }), "max_rejects");
  assertEquals(refuse({ ess_threshold: 1.01 }), "ess_threshold");
});

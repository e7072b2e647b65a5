import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  CapabilityError,
  choiceConstraint,
  encodePrompt,
  logNormalizer,
  seedFrom,
} from "../../runtime/mod.ts";
import { getStrategy, RoleError, runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { chatPrompt, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { allCapabilities, type FakeModel, fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

const cascade = getStrategy("speculative-cascade");
const gatedRules = [
  { rule: "chow", alpha: 0.6 },
  { rule: "margin", margin: 0.1 },
  { rule: "never" },
  { rule: "always" },
];
const rules = [
  ...gatedRules,
  { rule: "token-v3", alpha: 0.4 },
  { rule: "token-v2", alpha: 0.1 },
  { rule: "token-v1", alpha: 0.1 },
  { rule: "diff", alpha: 0.1 },
  { rule: "opt", alpha: 0.3 },
  { rule: "oracle" },
  { rule: "mix" },
  { rule: "contrast", beta: 1.4 },
  { rule: "proxy" },
];

function models(seeds: readonly number[] = [1, 2, 3]): Record<string, FakeModel> {
  const roles = ["model", "draft", "tuned"];
  return Object.fromEntries(seeds.map((seed, i) => [roles[i], hashModel({ seed, stopBias: -2 })]));
}

function rolesFor(params: { readonly rule: string }): Record<string, FakeModel> {
  return params.rule === "proxy" ? models() : models([1, 2]);
}

Deno.test("coupled: step, gated and speculative executions give the same tokens for a seed, for every rule", async () => {
  for (const params of rules) {
    for (let seed = 1; seed <= 4; seed++) {
      const all = rolesFor(params);
      const constraint = seed % 3 === 0
        ? choiceConstraint(all["model"]!.vocab, ["abba", "cab", "abc"])
        : undefined;
      const overrides = {
        sampling: { seed: seedFrom(seed), topP: 0.9, presencePenalty: 0.4, logitBias: [[3, 1]] },
        logprobs: 2,
        choices: 2,
        stop: ["ab"],
        maxTokens: 30,
        constraint,
      } as const;
      const run = (more: Record<string, unknown>) =>
        runToEnd(requestOf(cascade, rolesFor(params), {
          ...overrides,
          params: { ...params, verify: "coupled", ...more },
        }));
      const step = await run({ execution: "step" });
      for (const gamma of [1, 3, 8]) {
        for (const bonus of ["alternate", "none"]) {
          const fast = await run({ execution: "speculative", gamma, bonus });
          assertEquals(fast.choices, step.choices, JSON.stringify(params));
        }
      }
      if (!gatedRules.includes(params)) continue;
      for (const [gamma, ahead] of [[5, 0], [1, 1], [2, 6], [4, 16]]) {
        const gated = await run({ execution: "gated", gamma, ahead });
        assertEquals(gated.choices, step.choices, `${JSON.stringify(params)} ${gamma} ${ahead}`);
      }
    }
  }
});

Deno.test("temperature 0: one text for every execution, verification and gamma", async () => {
  for (const params of rules) {
    const run = (more: Record<string, unknown>) =>
      runToEnd(requestOf(cascade, rolesFor(params), {
        sampling: { temperature: 0 },
        maxTokens: 40,
        params: { ...params, ...more },
      }));
    const step = await run({ execution: "step" });
    for (let gamma = 1; gamma <= 8; gamma++) {
      const fast = await run({ execution: "speculative", gamma });
      assertEquals(fast.choices, step.choices, JSON.stringify(params));
    }
    const auto = await run({});
    assertEquals(auto.choices, step.choices, JSON.stringify(params));
    for (const ahead of gatedRules.includes(params) ? [1, 5, 16] : []) {
      const gated = await run({ execution: "gated", gamma: 3, ahead });
      assertEquals(gated.choices, step.choices, `${JSON.stringify(params)} ${ahead}`);
    }
  }
});

Deno.test("always is the large model, never the small one without a pass of the large one", async () => {
  const { model, draft } = models();
  for (let seed = 1; seed <= 10; seed++) {
    const overrides = { sampling: { seed: seedFrom(seed), topP: 0.8 }, logprobs: 1 };
    const large = await runToEnd(requestOf("sample", model!, overrides));
    const small = await runToEnd(requestOf("sample", draft!, overrides));
    const fresh = models([1, 2]);
    const never = await runToEnd(
      requestOf(cascade, fresh, { ...overrides, params: { rule: "never" } }),
    );
    assertEquals(never.choices, small.choices);
    assertEquals(fresh["model"]!.stats.rows, 0);
    assertEquals([never.result.metrics["deferrals"], never.result.metrics["small_share"]], [0, 1]);
    const always = await runToEnd(requestOf(cascade, models([1, 2]), {
      ...overrides,
      params: { rule: "always", execution: "gated" },
    }));
    assertEquals(always.choices, large.choices);
  }
});

Deno.test("gated needs of the large model no more than to continue tokens, or to draw under a mask", async () => {
  const capabilities = ["edit", "generate"] as const;
  const model = hashModel({ seed: 1, capabilities });
  const draft = hashModel({ seed: 2 });
  const params = { rule: "chow", alpha: 0.6 };
  const remote = await runToEnd(requestOf(cascade, { model, draft }, { params }));
  const local = await runToEnd(requestOf(cascade, {
    model: hashModel({ seed: 1 }),
    draft,
  }, { params: { ...params, verify: "coupled", execution: "step" } }));
  assertEquals(remote.choices, local.choices);
  const refuse = (more: Record<string, unknown>, constrained = false) =>
    assertThrows(
      () =>
        runStrategy(requestOf(cascade, { model, draft }, {
          params: { ...params, ...more },
          constraint: constrained ? choiceConstraint(model.vocab, ["ab"]) : undefined,
        })),
      CapabilityError,
    );
  assertEquals(refuse({ execution: "step" }).missing, ["logits"]);
  assertEquals(refuse({ execution: "speculative" }).missing, ["logits"]);
  assertEquals(refuse({ rule: "token-v3" }).use, { strategy: cascade.name, role: "model" });
  assertEquals(refuse({}, true).missing, ["sample"]);
  assertEquals(refuse({ ahead: 4 }).missing, ["logits"]);
  const bare = hashModel({
    capabilities: allCapabilities.filter((capability) => capability !== "generate"),
  });
  assertThrows(
    () => runStrategy(requestOf(cascade, { model: bare, draft }, { params })),
    CapabilityError,
    "generate",
  );
});

Deno.test("ratio: texts follow the rule's law in every execution (false alarms 1e-6 in all)", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  const p = { a: 0.5, b: 0.35, c: 0.15 };
  const q = { a: 0.2, b: 0.3, c: 0.5 };
  const model = tableModel({ vocab, table: { "": p } });
  const draft = tableModel({ vocab, table: { "": q } });
  // token-v3 at 0.4: S = {a, b}, q(S) = 0.5; chow at 0.5: the small model is sure enough.
  const laws = [
    [{ rule: "token-v3", alpha: 0.4 }, { a: 0.45, b: 0.475, c: 0.075 }],
    [{ rule: "chow", alpha: 0.45 }, p],
    [{ rule: "chow", alpha: 0.5 }, q],
    [{ rule: "mix", lambda: 0.25 }, { a: 0.425, b: 0.3375, c: 0.2375 }],
  ] as const;
  const texts = [..."abc"].flatMap((one) => [..."abc"].map((two) => one + two)) as string[];
  for (const [params, law] of laws) {
    const exact = texts.map(([one, two]) => law[one as "a"] * law[two as "a"]);
    const gated = [{ execution: "gated" }, { execution: "gated", ahead: 2 }];
    const executions = [
      { execution: "step" },
      { execution: "speculative" },
      ...params.rule === "chow" ? gated : [],
    ];
    for (const execution of executions) {
      const counts = texts.map(() => 0);
      await Promise.all(Array.from({ length: 900 }, async (_, seed) => {
        const { choices } = await runToEnd(requestOf(cascade, { model, draft }, {
          params: { ...params, ...execution, gamma: 2 },
          prompt: [2],
          maxTokens: 2,
          sampling: { seed: seedFrom(seed) },
        }));
        counts[texts.indexOf(choices[0]!.text)]!++;
      }));
      assertDistribution(counts, exact, 5e-8, `${params.rule} ${JSON.stringify(execution)}`);
    }
  }
});

Deno.test("past a deferral nothing is output until the large model's pass, which settles several", async () => {
  const options = { ignoreStop: true, maxTokens: 60, sampling: { seed: seedFrom(5) } };
  const params = { rule: "chow", alpha: 0.6, verify: "coupled", gamma: 4 };
  const passes: number[] = [];
  for (const ahead of [0, 12]) {
    const { model, draft } = models([1, 2]);
    const request = requestOf(cascade, { model: model!, draft: draft! }, {
      ...options,
      params: { ...params, ahead },
    });
    // Tokens the small model has been asked for, and those that were output, chunk by chunk.
    let output = 0, held = 0;
    const events = runStrategy(request);
    for (;;) {
      const next = await events.next();
      if (next.done) {
        const { metrics } = next.value;
        passes.push(metrics["calls_model"]!);
        assertEquals(metrics["calls_model"]! <= metrics["deferrals"]!, true);
        assertEquals(metrics["small_share"], 1 - metrics["deferrals"]! / 60);
        break;
      }
      if (next.value.type === "text") output += next.value.tokens.length;
      held = Math.max(held, draft!.stats.rows - output);
    }
    assert(ahead === 0 || held > 1, `${held}`);
    assertEquals(output, 60);
  }
  assert(passes[1]! < 0.8 * passes[0]!, `${passes}`);
});

Deno.test("trace: a turn's tokens are those decided in it, and turns add up to the usage", async () => {
  for (const ahead of [0, 12]) {
    const { result, choices: [choice] } = await runToEnd(requestOf(cascade, models([1, 2]), {
      params: { rule: "chow", alpha: 0.6, ahead },
      trace: "steps",
      maxTokens: 30,
      ignoreStop: true,
    }));
    const turns = result.steps.filter(({ type }) => type === "turn");
    const decided = turns.reduce((sum, { decided }) => sum + Number(decided), 0);
    assertEquals([decided, result.usage.completionTokens, choice!.tokens.length], [30, 30, 30]);
    const { model, draft } = result.meters;
    assertEquals(result.usage.drawnTokens, model!.drawnTokens + draft!.drawnTokens);
  }
});

Deno.test("acceptance is at least the small model's share; where that is all, passes are few", async () => {
  let proposed = 0, accepted = 0, share = 0;
  const runs = 10;
  const run = (seed: number, params: Record<string, unknown>) =>
    runToEnd(requestOf(cascade, models([1, 2]), {
      maxTokens: 60,
      ignoreStop: true,
      sampling: { seed: seedFrom(seed) },
      params,
    }));
  for (let seed = 1; seed <= runs; seed++) {
    // One proposal a round: every one of them is decided.
    const { result: { metrics } } = await run(seed, { alpha: 0.7, gamma: 1, bonus: "none" });
    proposed += metrics["proposed_draft"]!;
    accepted += metrics["accepted_draft"]!;
    share += metrics["small_share"]! / runs;
  }
  const sigma = Math.sqrt(share * (1 - share) / proposed);
  assert(accepted / proposed >= share - 3 * sigma, `${accepted} of ${proposed}, share ${share}`);
  assert(share > 0.2 && share < 0.9, `${share}`);
  const { result: { metrics } } = await run(1, { alpha: 1, gamma: 4, bonus: "none" });
  assertEquals([metrics["accepted_draft"], metrics["calls_model"]], [60, 15]);
});

Deno.test("log-probabilities are those of the rule's law at temperature 1", async () => {
  const { model, draft } = models();
  const { choices: [choice] } = await runToEnd(
    requestOf(cascade, { model: model!, draft: draft! }, {
      params: { alpha: 0.5 },
      sampling: { temperature: 0.5, topK: 3 },
      logprobs: 2,
      maxTokens: 8,
    }),
  );
  const prompt = encodePrompt(chatPrompt, model!.vocab, { model: "hash" });
  for (const [i, token] of choice!.tokens.entries()) {
    const [p, q] = await Promise.all([model!, draft!].map(async (one) => {
      using session = one.session([...prompt, ...choice!.tokens.slice(0, i)]);
      const [row] = await session.logits();
      const normalizer = logNormalizer(row!);
      return row!.map((logit) => Math.exp(logit - normalizer));
    }));
    const floor = 0.5 * Math.max(...p!);
    const inSet = p!.map((mass) => +(mass >= floor));
    const share = q!.reduce((sum, mass, v) => sum + mass * inSet[v]!, 0);
    const mass = q![token]! * inSet[token]! + (1 - share) * p![token]!;
    assertAlmostEquals(choice!.logprobs[i]!.logprob, Math.log(mass), 1e-4);
  }
});

Deno.test("what does not go together is refused by name", () => {
  const refuse = (params: Record<string, unknown>) =>
    assertThrows(
      () => runStrategy(requestOf(cascade, models([1, 2]), { params })),
      StrategyParamError,
    ).param;
  assertEquals(refuse({ rule: "chow", alpha: -0.1 }), "alpha");
  assertEquals(refuse({ rule: "token-v3", alpha: 1.1 }), "alpha");
  assertEquals(refuse({ rule: "diff", alpha: 2 }), "alpha");
  assertEquals(refuse({ rule: "token-v3", execution: "gated" }), "execution");
  assertEquals(refuse({ rule: "svm" }), "rule");
  assertEquals(refuse({ gamma: 17 }), "gamma");
  assertEquals(refuse({ ahead: 65 }), "ahead");
  assertEquals(refuse({ ahead: 4 }), "ahead"); // token-v3 has no gate
  assertEquals(refuse({ rule: "chow", execution: "step", ahead: 4 }), "ahead");
  assertEquals(refuse({ plausibility: 0 }), "plausibility");
  const other = hashModel({ vocab: fakeVocab({ pieces: ["a", "b"] }) });
  for (const role of ["draft", "tuned"]) {
    const error = assertThrows(
      () =>
        runStrategy(
          requestOf(cascade, { ...models(), [role]: other }, { params: { rule: "proxy" } }),
        ),
      RoleError,
    );
    assertEquals(error.role, role);
  }
});

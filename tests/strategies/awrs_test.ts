// deno-lint-ignore-file camelcase -- parameters as on the wire
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  CapabilityError,
  choiceConstraint,
  encodePrompt,
  regexConstraint,
  seedFrom,
} from "../../runtime/mod.ts";
import { runStrategy } from "../../strategies/mod.ts";
import { chatPrompt, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { type FakeModel, hashModel, predicateConstraint } from "../fakes/mod.ts";
import {
  awrs,
  distance,
  exact,
  judged,
  local,
  masked,
  mass,
  remote,
  run,
  survey,
  texts,
  toy,
  vocab,
} from "./_awrs_toy.ts";

const estimators = ["recursive", "two-loop", "geometric", "auto"];

for (const estimator of estimators) {
  Deno.test(`${estimator}: one particle gives the texts of the mask and an unbiased mass (false alarms 3e-7)`, async () => {
    const { counts, mean, error } = await survey({ estimator }, 1000);
    assertDistribution(counts, local, 1e-7);
    // 5.2 standard errors: 2e-7 both ways.
    assert(Math.abs(mean - mass) < 5.2 * error, `${mean} +- ${error}, exact ${mass}`);
  });

  Deno.test(`${estimator}: the mass stays unbiased with four particles and resampling (false alarms 4e-7)`, async () => {
    for (const resampling of ["multinomial", "systematic"]) {
      const params = { estimator, n_particles: 4, ess_threshold: 0.9, resampling };
      const { mean, error } = await survey(params, 300);
      assert(Math.abs(mean - mass) < 5.2 * error, `${mean} +- ${error}, exact ${mass}`);
    }
  });
}

Deno.test("the exact mask path is unbiased too, and asks one mask per token", async () => {
  const { counts, mean, error } = await survey({}, 1000, masked);
  assertDistribution(counts, local, 1e-7);
  assert(Math.abs(mean - mass) < 5.2 * error, `${mean} +- ${error}, exact ${mass}`);
  const { metrics } = await run({}, 1, masked());
  assertEquals(metrics["checks"], 3);
});

Deno.test("without logits: the texts of the mask and an unbiased mass, however few tokens are told (false alarms 1e-6)", async () => {
  for (const visible of [1, 2, 5]) {
    for (const estimator of ["recursive", "geometric"]) {
      const params = { estimator, visible };
      const { counts, mean, error } = await survey(params, 400, judged, () => toy(remote));
      assertDistribution(counts, local, 5e-8, JSON.stringify(params));
      // 5.3 standard errors: 1.2e-7 both ways.
      assert(Math.abs(mean - mass) < 5.3 * error, `${mean} +- ${error}, exact ${mass}`);
    }
  }
  const many = await survey({ n_particles: 32, visible: 1 }, 100, masked, () => toy(remote));
  assert(distance(many.counts) < 0.2, `${many.counts}`);
});

Deno.test("without logits: greedy under a constraint, raw log-probabilities, and what needs logits is refused", async () => {
  const constraint = (model: FakeModel) =>
    predicateConstraint({
      vocab: model.vocab,
      viable: (text) => /^[a-h]*$/.test(text),
      accepting: (text) => text.length > 5,
    });
  const model = hashModel();
  const told = hashModel(remote);
  for (const [temperature, visible] of [[0, 3], [0, 24], [1, 4]]) {
    const overrides = {
      constraint: constraint(model),
      sampling: { temperature: temperature! },
      logprobs: 1,
      maxTokens: 12,
    };
    const { choices: [choice] } = await runToEnd(
      requestOf(awrs, told, { ...overrides, params: { visible } }),
    );
    if (temperature === 0) {
      const plain = await runToEnd(requestOf("greedy", model, overrides));
      assertEquals(choice!.text, plain.choices[0]!.text);
    }
    using session = model.session([
      ...encodePrompt(chatPrompt, model.vocab, { model: model.id }),
      ...choice!.tokens,
    ]);
    const scores = await session.score({ last: choice!.tokens.length });
    choice!.logprobs.forEach(({ logprob, top }, i) => {
      assertAlmostEquals(logprob, scores[i]!, 1e-5);
      assertEquals(top.length, 1);
    });
  }
  const refused: readonly Parameters<typeof requestOf>[2][] = [
    { sampling: { temperature: 0.7 } },
    { sampling: { topP: 0.9 } },
    { sampling: { presencePenalty: 1 } },
    { params: { estimator: "mask" } },
    { constraint: undefined },
  ];
  for (const overrides of refused) {
    const error = assertThrows(
      () => runStrategy(requestOf(awrs, told, { constraint: constraint(model), ...overrides })),
      CapabilityError,
    );
    assertEquals(error.missing, ["logits"]);
  }
});

Deno.test("more particles come closer to the conditional distribution; masking does not", async () => {
  const one = distance((await survey({}, 1000, masked)).counts);
  const four = distance((await survey({ n_particles: 4 }, 500)).counts);
  const many = distance((await survey({ n_particles: 48 }, 200)).counts);
  const bias = local.reduce((sum, p, i) => sum + Math.abs(p - exact[i]!), 0) / 2;
  // Counting noise of these runs is about 0.02.
  assert(Math.abs(one - bias) < 0.05 && bias > 0.5, `one particle ${one}, masking ${bias}`);
  assert(four < bias - 0.1, `four particles ${four}`);
  assert(many < 0.13, `48 particles ${many}`);
});

Deno.test("importance sampling alone and resampling agree; the heaviest text is the likeliest", async () => {
  const weighed = distance((await survey({ n_particles: 32, ess_threshold: 0 }, 200)).counts);
  assert(weighed < 0.15, `${weighed}`);
  const { counts } = await survey({ n_particles: 32, choose: "heaviest" }, 100);
  const best = texts.indexOf("ba");
  assert(counts[best]! > 95, `${counts}`);
});

Deno.test("tokens are those of sample under the same constraint and seed, until the limit", async () => {
  const constraint = (model: FakeModel) =>
    predicateConstraint({
      vocab: model.vocab,
      viable: (text) => /^[a-h]*( [a-h]*)?$/.test(text),
      accepting: (text) => text.length > 3,
    });
  for (let seed = 1; seed <= 20; seed++) {
    const model = hashModel({ stopBias: 0.5 });
    const overrides = {
      constraint: constraint(model),
      sampling: { seed: seedFrom(seed), temperature: seed % 4 === 0 ? 0 : 1, presencePenalty: 0.3 },
      choices: 2,
      logprobs: 2,
      maxTokens: 400,
    };
    const plain = await runToEnd(requestOf("sample", model, overrides));
    for (
      const params of [
        ...estimators.map((estimator) => ({ estimator })),
        { estimator: "mask" },
        { proper_weights: false },
        { prune: false },
        { max_accepts: 5 },
      ]
    ) {
      const { choices } = await runToEnd(requestOf(awrs, model, { ...overrides, params }));
      assertEquals(choices, plain.choices, JSON.stringify(params));
    }
  }
});

Deno.test("a model that cannot draw by itself gives the same tokens from its rows", async () => {
  const words = ["abba", "cab", "a b", "abbaba"];
  const constraints = {
    none: () => undefined,
    masked: (model: FakeModel) => choiceConstraint(model.vocab, words),
    judged(model: FakeModel) {
      const { name, start, advance, accepting } = choiceConstraint(model.vocab, words);
      return { name, start, advance, accepting };
    },
  };
  const ways: { sampling?: object; params: object }[] = [
    { params: { n_particles: 3 } },
    { params: { proper_weights: false } },
    { params: { prune: false, n_particles: 2 }, sampling: { temperature: 0.7 } },
    { params: { proper_weights: false, max_rejects: 20 }, sampling: { topK: 20 } },
    { params: {}, sampling: { temperature: 0 } },
  ];
  for (let seed = 1; seed <= 10; seed++) {
    for (const constraint of Object.values(constraints)) {
      for (const { sampling, params } of ways) {
        const run = (model: FakeModel) =>
          runToEnd(requestOf(awrs, model, {
            constraint: constraint(model),
            sampling: { seed: seedFrom(seed), temperature: 1, ...sampling },
            params: { ...params },
            logprobs: 2,
          }));
        const drawn = await run(hashModel());
        const read = await run(hashModel({ capabilities: ["edit", "logits"] }));
        assertEquals(read.choices, drawn.choices);
        assertEquals(read.result.choices, drawn.result.choices);
        assertEquals(read.result.metrics, drawn.result.metrics);
      }
    }
  }
});

Deno.test("a judged draw that is allowed reads no row; one that is refused reads one more", async () => {
  const model = hashModel({ spread: 30, stopBias: -Infinity });
  const run = async (viable: (text: string) => boolean) => {
    const constraint = predicateConstraint({ vocab: model.vocab, viable, accepting: () => false });
    const params = { proper_weights: false };
    const request = requestOf(awrs, model, { params, constraint, maxTokens: 20 });
    return (await runToEnd(request)).result;
  };
  const free = await run(() => true);
  assertEquals([free.metrics["checks"], free.meters["model"]!.rows], [20, 20]);
  const held = await run((text) => !/[a-e]/.test(text));
  const { rows } = held.meters["model"]!;
  assert(held.metrics["checks"]! > 20 && rows > 20 && rows <= 40, `${rows} rows`);
});

Deno.test("a peaked model is asked about few tokens, and improper draws about fewest", async () => {
  const model = () => hashModel({ spread: 30, stopBias: -Infinity });
  const constraint = predicateConstraint({
    vocab: model().vocab,
    viable: () => true,
    accepting: () => false,
  });
  const checksPer = async (params: Record<string, unknown>) => {
    const { result, choices } = await runToEnd(
      requestOf(awrs, model(), { params, constraint, maxTokens: 100 }),
    );
    return result.metrics["checks"]! / choices[0]!.tokens.length;
  };
  const proper = await checksPer({});
  assert(proper >= 1 && proper < 1.5, `${proper}`);
  assertEquals(await checksPer({ proper_weights: false }), 1);
  assert(await checksPer({ estimator: "mask" }) <= 1, "one mask per token");
});

Deno.test("common beginnings of all particles stream before the end", async () => {
  const constraint = regexConstraint("abcabcabc(a|b)c", hashModel().vocab);
  const events = [];
  const request = requestOf(awrs, hashModel({ stopBias: -3 }), {
    params: { n_particles: 6, ess_threshold: 0 },
    constraint,
    logprobs: 0,
  });
  for await (const event of runStrategy(request)) events.push(event);
  const parts = events.flatMap((event) => event.type === "text" ? [event.text] : []);
  assertEquals(parts.slice(0, 9).join(""), "abcabcabc");
  assert(/^abcabcabc[ab]c$/.test(parts.join("")), parts.join(""));
});

Deno.test("at the limit a complete text is ended at the weight of its end; cut ones count only alone", async () => {
  // Two tokens and the end, or two tokens more than fit.
  const constraint = () =>
    predicateConstraint({
      vocab,
      viable: (text) => /^[ab]{0,4}$/.test(text),
      accepting: (text) => text.length === 2 || text.length === 4,
    });
  let sum = 0;
  for (let seed = 0; seed < 300; seed++) {
    const { reason, choices, text } = await run({ n_particles: 8 }, seed, constraint());
    assertEquals([reason, text.length], ["stop", 2]);
    sum += Math.exp(choices[0]!["log_z"]!);
  }
  assert(Math.abs(sum / 300 / mass - 1) < 0.25, `${sum / 300}, exact ${mass}`);
  const cut = await run({ n_particles: 4 }, 1, constraint(), 1);
  assertEquals([cut.reason, cut.text.length, cut.choices[0]!["complete"]], ["length", 1, 0]);
});

Deno.test("steps are traced: living particles, effective size, mass and checks", async () => {
  const { result } = await runToEnd(requestOf(awrs, toy(), {
    params: { n_particles: 8, ess_threshold: 1 },
    constraint: judged(),
    prompt: [3],
    maxTokens: 3,
    trace: "steps",
  }));
  assertEquals(result.steps.length, 3);
  const steps = result.steps as readonly Record<string, number>[];
  assert(steps.every(({ ess, alive }) => ess! >= 1 && ess! <= alive! + 1e-9));
  assert(result.metrics["resamplings"]! > 0);
  assertAlmostEquals(steps.at(-1)!["log_z"]!, result.choices[0]!["log_z"]!, 1e-12);
  assert(result.usage.drawnTokens > result.usage.completionTokens);
});

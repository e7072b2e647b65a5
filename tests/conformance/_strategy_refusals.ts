/** Laws about what is refused, before any work. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  CapabilityError,
  choiceConstraint,
  ContextLengthError,
  TemplateError,
} from "../../runtime/mod.ts";
import {
  describeStrategy,
  runStrategy,
  StrategyParamError,
  usedRoles,
} from "../../strategies/mod.ts";
import { allCapabilities, hashModel } from "../fakes/mod.ts";
import { requestOf } from "./_strategy_run.ts";
import type { RegisterLaw } from "./strategy.ts";

export function refusalLaws(law: RegisterLaw): void {
  law("unknown parameters are refused by name", ({ strategy, params, models }) => {
    const all = models();
    const error = assertThrows(
      () => runStrategy(requestOf(strategy, all, { params: { ...params, no_such_key: 1 } })),
      StrategyParamError,
      "no_such_key",
    );
    assertEquals([error.param, error.strategy], ["no_such_key", strategy.name]);
    return unused(all);
  });

  law("wrong types and huge numbers are refused by name", ({ strategy, params, models }) => {
    const all = models();
    for (const name of parameterNames(strategy)) {
      for (const value of [NaN, Infinity, 1e308, {}, [], "\0", null]) {
        const error = assertThrows(
          () => runStrategy(requestOf(strategy, all, { params: { ...params, [name]: value } })),
          StrategyParamError,
        );
        assertEquals(error.param, name);
      }
    }
    return unused(all);
  });

  law("a model that lacks a capability is refused with its role", ({ strategy, params }) => {
    const roles = usedRoles(strategy, strategy.params.parse(params));
    for (const [role, needs] of Object.entries(roles)) {
      for (const need of needs) {
        const capabilities = allCapabilities.filter((capability) => capability !== need);
        const model = hashModel({ capabilities });
        const error = assertThrows(
          () => runStrategy(requestOf(strategy, model, { params })),
          CapabilityError,
          need,
        );
        assertEquals(error.missing, [need]);
        assertEquals(error.use, { strategy: strategy.name, role: error.use.role ?? role });
      }
    }
    return Promise.resolve();
  });

  law("a constraint the model or the strategy cannot honour is refused", (subject) => {
    const { strategy, params } = subject;
    const needs = Object.values(strategy.constrainedNeeds ?? {}).flat();
    const capabilities = allCapabilities.filter((capability) => !needs.includes(capability));
    const model = hashModel({ capabilities });
    const constraint = choiceConstraint(model.vocab, ["ab"]);
    if (!strategy.constrained || needs.length > 0) {
      assertThrows(
        () => runStrategy(requestOf(strategy, model, { params, constraint })),
        CapabilityError,
      );
    }
    return unused({ model });
  });

  law("prompts that cannot be served are refused", ({ strategy, params, models }) => {
    const all = models();
    const run = (overrides: Parameters<typeof requestOf>[2]) => () =>
      runStrategy(requestOf(strategy, all, { params, ...overrides }));
    const error = assertThrows(run({ maxTokens: 1017 }), ContextLengthError);
    assertEquals([error.promptTokens, error.maxTokens, error.limit], [8, 1017, 1024]);
    runStrategy(requestOf(strategy, all, { params, maxTokens: 1016 }));
    assertThrows(run({ prompt: [] }), RangeError, "empty");
    assertThrows(run({ prompt: [{ role: "user", content: null }] }), TemplateError);
    assertThrows(run({ maxTokens: 0 }), RangeError);
    assertThrows(run({ stop: [""] }), RangeError, "stop string");
    return unused(all);
  });

  law("more choices than there can be are refused", (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const all = models();
    const run = (choices: number) => () =>
      runStrategy(requestOf(strategy, all, { params, choices }));
    for (const choices of [0, -1, 1.5, NaN]) assertThrows(run(choices), RangeError);
    if (maxChoices < 3) {
      const error = assertThrows(run(maxChoices + 1), StrategyParamError);
      assertEquals(error.param, "n");
    }
    return unused(all);
  });

  law("the description names every parameter with its default", ({ strategy }) => {
    const { params, summary, source } = describeStrategy(strategy);
    assertEquals(params.additionalProperties, false);
    const properties = Object.entries(params.properties ?? {});
    for (const [name, schema] of properties) {
      assert("default" in schema || "required" in params, `${name} has neither default nor need`);
      assert("description" in schema, `${name} is not described`);
    }
    assertStringIncludes(JSON.stringify(params), '"type":"object"');
    assert(summary.length > 10 && source.length > 5);
    return Promise.resolve();
  });
}

function parameterNames(strategy: Parameters<typeof describeStrategy>[0]): readonly string[] {
  return Object.keys(describeStrategy(strategy).params.properties ?? {});
}

/** Refusing costs nothing: no session was opened. */
function unused(models: Readonly<Record<string, ReturnType<typeof hashModel>>>): Promise<void> {
  for (const { stats } of Object.values(models)) {
    assertEquals([stats.peakSessions, stats.steps], [0, 0]);
  }
  return Promise.resolve();
}

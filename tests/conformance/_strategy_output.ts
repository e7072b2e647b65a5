/** Laws about what comes out. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { choiceConstraint, type Constraint, encodePrompt, seedFrom } from "../../runtime/mod.ts";
import { fakeVocab, hashModel, predicateConstraint } from "../fakes/mod.ts";
import { chatPrompt, type Outcome, requestOf, runToEnd } from "./_strategy_run.ts";
import type { RegisterLaw, Subject } from "./strategy.ts";

const seeds = [1, 2, 3, 4, 5];

/** Numbers of choices to try. */
export function choiceCounts({ maxChoices }: Subject): readonly number[] {
  return maxChoices > 1 ? [1, maxChoices] : [1];
}

export function outputLaws(law: RegisterLaw): void {
  law("a seeded run repeats", async ({ strategy, params, models, maxChoices }) => {
    for (const seed of seeds) {
      const run = () =>
        runToEnd(requestOf(strategy, models(), {
          params,
          choices: maxChoices,
          sampling: { seed: seedFrom(seed) },
          logprobs: 2,
          trace: "steps",
        }));
      assertEquals(await run(), await run());
    }
  });

  law("joined events are whole: text, tokens, bytes, one finish per choice", async (subject) => {
    const { strategy, params, models } = subject;
    for (const seed of seeds) {
      for (const choices of choiceCounts(subject)) {
        const sampling = { seed: seedFrom(seed) };
        const request = requestOf(strategy, models(), { params, choices, sampling, logprobs: 1 });
        const outcome = await runToEnd(request);
        assertEquals(outcome.choices.length, choices);
        assertWhole(outcome, (tokens) => Object.values(request.models)[0]!.vocab!.decode(tokens));
        const emitted = outcome.choices.map(({ tokens, reason }) =>
          tokens.length + (reason === "stop" ? 1 : 0)
        );
        const { usage } = outcome.result;
        assertEquals(usage.completionTokens, emitted.reduce((sum, count) => sum + count, 0));
        assert(emitted.every((count) => count <= request.maxTokens));
      }
    }
  });

  law("characters stay whole where tokens are bytes", async ({ strategy, params }) => {
    const vocab = fakeVocab({ pieces: [...bytePieces("é€"), "a", "é", "€a"] });
    for (const seed of seeds) {
      const model = hashModel({ vocab, seed });
      const request = requestOf(strategy, model, { params, prompt: [2], logprobs: 2 });
      assertWhole(await runToEnd(request), (tokens) => vocab.decode(tokens));
    }
  });

  law("log-probabilities are the raw model's", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const all = models();
    const request = requestOf(strategy, all, {
      params,
      choices: maxChoices,
      sampling: { temperature: 0.7, topK: 4, logitBias: [[2, 1]], presencePenalty: 0.5 },
      logprobs: 3,
    });
    const model = Object.values(all)[0]!;
    const { choices } = await runToEnd(request);
    for (const { tokens, logprobs } of choices) {
      assertEquals(logprobs.length, tokens.length);
      if (tokens.length === 0) continue;
      const prompt = encodePrompt(chatPrompt, model.vocab, { model: model.id });
      using session = model.session([...prompt, ...tokens]);
      const scores = await session.score({ last: tokens.length });
      logprobs.forEach(({ logprob, top }, i) => {
        assertAlmostEquals(logprob, scores[i]!, 1e-5);
        assertEquals(top.length, 3);
        assert(top.every((candidate, j) => j === 0 || candidate.logprob <= top[j - 1]!.logprob));
      });
    }
  });

  law("a constraint is always satisfied, or refused", async (subject) => {
    const { strategy, params, models } = subject;
    const model = Object.values(models())[0]!;
    const words = ["abba", "cab", "a b", "abbaba"];
    const constraints: Constraint[] = [
      choiceConstraint(model.vocab, words),
      predicateConstraint({
        vocab: model.vocab,
        viable: (text) => "cab ".repeat(9).startsWith(text),
        accepting: (text) => text.endsWith("cab"),
      }),
    ];
    if (!strategy.constrained) return;
    for (const constraint of constraints) {
      for (const seed of seeds) {
        for (const temperature of [0, 1]) {
          const sampling = { seed: seedFrom(seed), temperature };
          const request = requestOf(strategy, models(), { params, constraint, sampling });
          const { choices: [choice] } = await runToEnd(request);
          let state: unknown = constraint.start();
          for (const token of choice!.tokens) state = constraint.advance(state, token);
          assert(state !== undefined, `${constraint.name} refuses ${choice!.text}`);
          if (choice!.reason === "stop") assert(constraint.accepting(state), choice!.text);
          if (constraint.name === "choice") assert(words.includes(choice!.text), choice!.text);
        }
      }
    }
  });

  law("stop tokens ignored: every choice runs to the limit", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const { choices } = await runToEnd(requestOf(strategy, models(), {
      params,
      choices: maxChoices,
      ignoreStop: true,
      maxTokens: 9,
    }));
    for (const { reason, tokens } of choices) assertEquals([reason, tokens.length], ["length", 9]);
  });
}

/** One piece per byte of a text. */
function bytePieces(text: string): Uint8Array[] {
  return Array.from(new TextEncoder().encode(text), (byte) => Uint8Array.of(byte));
}

function assertWhole(
  { events, choices }: Outcome,
  decode: (tokens: readonly number[]) => string,
): void {
  const finished = new Set<number>();
  for (const event of events) {
    assert(!finished.has(event.choice), "an event after the finish");
    if (event.type === "finish") {
      finished.add(event.choice);
      continue;
    }
    const bytes = event.logprobs!.flatMap((entry) => [...entry.bytes]);
    assertEquals(decode(event.tokens), event.text);
    assertEquals(new TextDecoder().decode(Uint8Array.from(bytes)), event.text);
    assertEquals(event.logprobs!.length, event.tokens.length);
  }
  for (const { text, tokens } of choices) assertEquals(decode(tokens), text);
}

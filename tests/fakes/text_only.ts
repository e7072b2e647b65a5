/** A model whose tokens never cross the wire, like a chat-only upstream. */
import type { LanguageModel, Sampled, SessionCore } from "../../runtime/mod.ts";
import type { FakeModel } from "./_model.ts";

/** Hides the vocabulary and everything but `generate`, which yields text. */
export function textOnly(model: FakeModel): LanguageModel {
  const texts = new Map<number, string>();
  const text = (token: number) => {
    if (!texts.has(token)) texts.set(token, model.vocab.decode([token]));
    return texts.get(token)!;
  };
  const wrap = (session: ReturnType<FakeModel["session"]>): SessionCore => ({
    fork() {
      return wrap(session.fork()) as typeof this;
    },
    [Symbol.dispose]: () => session[Symbol.dispose](),
    async *generate(options: Parameters<typeof session.generate>[0]) {
      for await (const { token } of session.generate(options)) {
        yield { token: -1, logprob: NaN, top: [], text: text(token) } satisfies Sampled;
      }
    },
  } as SessionCore);
  return {
    id: model.id,
    vocab: undefined,
    contextLength: model.contextLength,
    capabilities: new Set(["generate"]),
    session: (prompt, options) =>
      wrap(model.session(prompt, options)) as ReturnType<LanguageModel["session"]>,
  };
}

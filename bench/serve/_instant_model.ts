/** A model that costs nothing: what is left of a request's time is the gateway's. */
import type { LanguageModel, Sampled, Session, Vocab } from "../../runtime/mod.ts";

const letter = Uint8Array.of(0x61);

const vocab: Vocab = {
  size: 2,
  fingerprint: "instant",
  bos: undefined,
  stopTokens: new Set([1]),
  isSpecial: (token) => token === 1,
  bytes: (token) => token === 1 ? new Uint8Array() : letter,
  piece: (token) => token === 1 ? "<end>" : "a",
  encode: (text) => Array.from(text, () => 0),
  decode: (tokens) => "a".repeat(tokens.length),
  chat: { render: () => "a", encode: () => [0] },
};

const sampled: Sampled = { token: 0, logprob: 0, top: [] };

/** Says "a" for ever, at once. */
export const instantModel: LanguageModel<"generate"> = {
  id: "instant",
  vocab,
  contextLength: 1_000_000,
  capabilities: new Set(["generate"]),
  session(_prompt, { scope } = {}) {
    const session: Session<"generate"> = {
      fork() {
        return this;
      },
      async *generate({ maxTokens }) {
        for (let i = 0; i < maxTokens; i++) {
          scope?.signal.throwIfAborted();
          yield await Promise.resolve(sampled);
        }
      },
      [Symbol.dispose]() {},
    };
    return session;
  },
};

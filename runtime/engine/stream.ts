/** generate(): draws, appends and yields until a stop token or the limit. */
import type { GenerateOptions, Sampled, Session, TokenId } from "../model.ts";

/**
 * A token is appended when it is handed out, so breaking out of the loop leaves the session exactly
 * at what was consumed.
 *
 * @throws {ContextLengthError} if the context is full before `maxTokens`
 */
export async function* generate(
  session: Session<"sample" | "edit">,
  stopTokens: ReadonlySet<TokenId>,
  options: GenerateOptions,
): AsyncGenerator<Sampled, void, void> {
  const { sampling, maxTokens, topLogprobs = 0, ignoreStop = false } = options;
  for (let drawn = 0; drawn < maxTokens; drawn++) {
    const sampled = await session.sample({ sampling, topLogprobs });
    session.append([sampled.token]);
    yield sampled;
    if (!ignoreStop && stopTokens.has(sampled.token)) return;
  }
}

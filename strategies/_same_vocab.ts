/** Models whose token ids mean the same. */
import type { LanguageModel } from "../runtime/mod.ts";
import { RoleError } from "./_errors.ts";

/** @throws {RoleError} if token ids of the two models do not mean the same */
export function requireSameVocab(
  strategy: string,
  role: string,
  model: LanguageModel<never>,
  other: LanguageModel<never>,
): void {
  if (model.vocab && model.vocab.fingerprint === other.vocab?.fingerprint) return;
  throw new RoleError(strategy, role, `${other.id} has another vocabulary than ${model.id}`);
}

/** HashModel under the laws of every model. */
import { testLanguageModel } from "../conformance/language_model.ts";
import { hashModel } from "./mod.ts";

testLanguageModel("hash model", () => {
  const model = hashModel();
  return { model, close() {}, openSessions: () => model.stats.openSessions };
});

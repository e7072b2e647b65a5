/** How much one step computes, by what the backend is good at and what fits it. */
import type { Backend, StepSize } from "../backend/backend.ts";

/** Where a backend says nothing: on processors larger steps gain nothing and hold up others. */
export const smallSteps: StepSize = { stepTokens: 64, chunkTokens: 32 };

/** What suits a backend; fewer tokens where logits of all of them would not fit one binding. */
export function stepSizeOf({ steps = smallSteps, limits }: Backend, vocab: number): StepSize {
  const most = Math.max(1, Math.floor(limits.maxBindingBytes / (4 * vocab)));
  return {
    stepTokens: Math.min(steps.stepTokens, most),
    chunkTokens: Math.min(steps.chunkTokens, most),
  };
}

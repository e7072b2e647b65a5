/** A thread that takes a part and is never heard of again. */
import {
  takePart,
  type TeamMessage,
  viewsOf,
  word,
} from "../../../../runtime/backend/wasm/team_control.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<TeamMessage>) => void) | null;
};

scope.onmessage = ({ data }) => {
  const { words } = viewsOf(data.block);
  Atomics.add(words, word.joined, 1);
  while (takePart(words) < 0);
};

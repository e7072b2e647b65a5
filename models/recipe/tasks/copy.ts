import { drawIn, sample, type Task } from "../task.ts";
import type { TaskRng } from "../rng.ts";
import { FIRST, NOUNS, VALUES } from "../words.ts";

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz"];
const ASK = "Copy this text:\n";

function text(rng: TaskRng): string {
  const parts = Array.from({ length: rng.between(2, 12) }, () => {
    switch (rng.int(4)) {
      case 0:
        return rng.pick(NOUNS);
      case 1:
        return rng.pick(VALUES);
      case 2:
        return rng.pick(FIRST);
      default:
        return Array.from({ length: rng.between(2, 7) }, () => rng.pick(LETTERS)).join("");
    }
  });
  return parts.join(" ");
}

/** Repeats words, names and random letters exactly. */
export const copy: Task = {
  name: "copy",
  generate(rng, split) {
    const wanted = drawIn(split, () => text(rng), (value) => value);
    return sample("copy", ASK + wanted, wanted);
  },
  solve: (question) => question.slice(ASK.length),
  values: (question) => [question.slice(ASK.length)],
};

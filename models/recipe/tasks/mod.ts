import type { Task } from "../task.ts";
import { add, addTwoDigits } from "./add.ts";
import { addSteps } from "./add_steps.ts";
import { copy } from "./copy.ts";
import { json } from "./json.ts";
import { recall, recall12, recall16, recallLong, recallMid } from "./recall.ts";
import { sort } from "./sort.ts";
import { sql } from "./sql.ts";
import { storyQa } from "./story_qa.ts";

/** Tasks of the training mixture with their number of training samples. */
export const TRAINING: readonly (readonly [Task, number])[] = [
  [add, 200_000],
  [addSteps, 50_000],
  [copy, 40_000],
  [json, 60_000],
  [recall, 25_000],
  [recallMid, 25_000],
  [recallLong, 4_000],
  [sort, 80_000],
  [sql, 60_000],
  [storyQa, 40_000],
];

/** Tasks of the held-out evaluation. */
export const EVALUATION: readonly Task[] = [
  addTwoDigits,
  add,
  addSteps,
  copy,
  json,
  recall16,
  recall12,
  recallLong,
  sort,
  sql,
  storyQa,
];

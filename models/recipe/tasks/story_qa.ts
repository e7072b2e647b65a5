import { sample, type Task } from "../task.ts";
import type { TaskRng } from "../rng.ts";
import { COLOURS, FIRST, NOUNS, PLACES, proper } from "../words.ts";
import type { Split } from "../task.ts";

const VERBS = ["took", "found", "lost", "hid", "saw"] as const;
const EVENT = /([A-Z][a-z]+) (took|found|lost|hid|saw) (the \w+ \w+) in (the \w+)\./g;
const EXTRA = [
  "It was a sunny day.",
  "Everyone was happy.",
  "Then it began to rain.",
  "They all went home.",
  "A small wind came up.",
];

interface Event {
  readonly who: string;
  readonly verb: string;
  readonly what: string;
  readonly where: string;
}

function story(rng: TaskRng, split: Split): Event[] {
  const count = rng.between(2, 5);
  const names = new Set<string>();
  while (names.size < count) names.add(proper(rng, split, FIRST));
  const nouns = rng.sample(NOUNS, count);
  const places = rng.sample(PLACES, count);
  return [...names].map((who, i) => ({
    who,
    verb: rng.pick(VERBS),
    what: `the ${rng.pick(COLOURS)} ${nouns[i]}`,
    where: `the ${places[i]}`,
  }));
}

/** Who, what or where in a story of two to five events in different places. */
export const storyQa: Task = {
  name: "qa",
  generate(rng, split) {
    const events = story(rng, split);
    const lines = events.map((e) => `${e.who} ${e.verb} ${e.what} in ${e.where}.`);
    for (let i = rng.int(3); i > 0; i--) {
      lines.splice(rng.int(lines.length + 1), 0, rng.pick(EXTRA));
    }
    const question = `${lines.join(" ")}\n${ask(rng, events)}`;
    return sample("qa", question, answer(question));
  },
  solve: answer,
  again(rng, question) {
    const next = ask(rng, eventsOf(question));
    const end = question.lastIndexOf("\n") + 1;
    return { ask: next, answer: answer(question.slice(0, end) + next) };
  },
  values: (question) => [...question.matchAll(EVENT)].map((m) => m[1] ?? ""),
};

function ask(rng: TaskRng, events: readonly Event[]): string {
  const e = rng.pick(events);
  return rng.pick([
    `Who ${e.verb} ${e.what}?`,
    `Where was ${e.what}?`,
    `What was in ${e.where}?`,
    `Who was in ${e.where}?`,
  ]);
}

function eventsOf(question: string): Event[] {
  return [...question.matchAll(EVENT)].map(([, who = "", verb = "", what = "", where = ""]) => ({
    who,
    verb,
    what,
    where,
  }));
}

function answer(question: string): string {
  const asked = question.slice(question.lastIndexOf("\n") + 1);
  const event = eventsOf(question).find((e) =>
    asked.includes(`${e.what}?`) || asked.includes(`${e.where}?`)
  );
  if (!event) throw new Error("no such event in the story");
  if (asked.startsWith("Who")) return event.who;
  return asked.startsWith("Where") ? event.where : event.what;
}

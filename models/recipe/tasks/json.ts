import { sample, type Task } from "../task.ts";
import { CITIES, FIRST, JOBS, LAST, proper } from "../words.ts";

const ASK = "Extract the record as JSON.\n";

interface Fields {
  readonly name: string;
  readonly age: number;
  readonly city: string;
  readonly job: string;
}

const TEMPLATES: readonly ((f: Fields) => string)[] = [
  (f) => `${f.name} is ${f.age} years old, lives in ${f.city} and works as a ${f.job}.`,
  (f) => `${f.name} from ${f.city} is a ${f.job} and ${f.age} years old.`,
  (f) => `At the age of ${f.age}, ${f.name} works as a ${f.job} in ${f.city}.`,
  (f) => `The ${f.job} ${f.name} (${f.age}) moved to ${f.city}.`,
  (f) => `In ${f.city} we met ${f.name}, a ${f.job} who is ${f.age}.`,
];
const NAME = "(?<name>[A-Z][a-z]+ [A-Z][a-z]+)";
const CITY = "(?<city>[A-Z][a-z]+)";
const PATTERNS = [
  `^${NAME} is (?<age>\\d+) years old, lives in ${CITY} and works as a (?<job>\\w+)`,
  `^${NAME} from ${CITY} is a (?<job>\\w+) and (?<age>\\d+) years`,
  `^At the age of (?<age>\\d+), ${NAME} works as a (?<job>\\w+) in ${CITY}`,
  `^The (?<job>\\w+) ${NAME} \\((?<age>\\d+)\\) moved to ${CITY}`,
  `^In ${CITY} we met ${NAME}, a (?<job>\\w+) who is (?<age>\\d+)`,
].map((source) => new RegExp(source));

function parse(question: string): Fields {
  for (const pattern of PATTERNS) {
    const groups = question.slice(ASK.length).match(pattern)?.groups;
    if (!groups) continue;
    const { name = "", age = "", city = "", job = "" } = groups;
    return { name, age: Number(age), city, job };
  }
  throw new Error("no record in the question");
}

/** One sentence about a person to a JSON record with four fixed fields. */
export const json: Task = {
  name: "json",
  generate(rng, split) {
    const fields: Fields = {
      name: `${proper(rng, split, FIRST)} ${proper(rng, split, LAST)}`,
      age: rng.between(18, 90),
      city: proper(rng, split, CITIES),
      job: rng.pick(JOBS),
    };
    return sample("json", ASK + rng.pick(TEMPLATES)(fields), JSON.stringify(fields));
  },
  solve: (question) => JSON.stringify(parse(question)),
  values(question) {
    const { name, city } = parse(question);
    return [...name.split(" "), city];
  },
};

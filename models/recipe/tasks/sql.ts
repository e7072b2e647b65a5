import { drawIn, sample, type Task } from "../task.ts";
import type { TaskRng } from "../rng.ts";
import { CITIES, COLOURS, FIRST } from "../words.ts";

interface Column {
  readonly name: string;
  /** Values for text columns; undefined for numbers. */
  readonly values?: readonly string[];
}
const TABLES: readonly { readonly name: string; readonly columns: readonly Column[] }[] = [
  { name: "people", columns: columns("name:first city:city age height") },
  { name: "cars", columns: columns("owner:first colour:colour price speed") },
  { name: "shops", columns: columns("city:city owner:first sales staff") },
  { name: "birds", columns: columns("name:first colour:colour weight age") },
  { name: "books", columns: columns("author:first pages price year") },
  { name: "trips", columns: columns("driver:first city:city price days") },
];

function columns(text: string): Column[] {
  const lists: Record<string, readonly string[]> = { first: FIRST, city: CITIES, colour: COLOURS };
  return text.split(" ").map((part) => {
    const [name = "", list] = part.split(":");
    const values = list === undefined ? undefined : lists[list];
    return values === undefined ? { name } : { name, values };
  });
}

const OPERATORS = [["is", "="], ["above", ">"], ["below", "<"]] as const;

/** Condition in words and in SQL. */
function condition(rng: TaskRng, column: Column): { words: string; value: string } {
  if (column.values) {
    const value = rng.pick(column.values);
    return { words: `${column.name} is ${value}`, value };
  }
  const value = String(rng.between(2, 999));
  return { words: `${column.name} ${rng.pick(OPERATORS)[0]} ${value}`, value };
}

function toSql(question: string): string {
  const schema = question.match(/^Table (\w+)\((.*)\)\n/);
  const ask = question.match(
    /\n(?:List (\w+)|Count rows) where (\w+) (\w+) (\w+)(?:, sorted by (\w+))?(?:, first (\d+))?$/,
  );
  if (!schema || !ask) throw new Error("not a question about a table");
  const [, column, where, operator, value, order, limit] = ask;
  const sign = OPERATORS.find(([word]) => word === operator)?.[1];
  const literal = /^\d+$/.test(value ?? "") ? value : `'${value}'`;
  let sql = `SELECT ${column ?? "COUNT(*)"} FROM ${schema[1]} WHERE ${where} ${sign} ${literal}`;
  if (order) sql += ` ORDER BY ${order}`;
  if (limit) sql += ` LIMIT ${limit}`;
  return sql;
}

/** One question about one table of three or four columns. */
export const sql: Task = {
  name: "sql",
  generate(rng, split) {
    const question = drawIn(split, () => {
      const table = rng.pick(TABLES);
      const order = rng.sample(table.columns, table.columns.length);
      const names = order.map((c) => c.name).join(", ");
      const { words } = condition(rng, rng.pick(order));
      const count = rng.chance(0.2);
      let ask = count ? "Count rows" : `List ${rng.pick(order).name}`;
      ask += ` where ${words}`;
      if (!count && rng.chance(0.4)) ask += `, sorted by ${rng.pick(order).name}`;
      if (!count && rng.chance(0.3)) ask += `, first ${rng.between(2, 20)}`;
      return `Table ${table.name}(${names})\n${ask}`;
    }, wordsAndValue);
    return sample("sql", question, toSql(question));
  },
  solve: toSql,
  values: (question) => [wordsAndValue(question)],
};

/** Table and condition: no held-out condition is seen in training. */
function wordsAndValue(question: string): string {
  return `${question.match(/^Table (\w+)/)?.[1]} ${question.match(/where (\w+ \w+ \w+)/)?.[1]}`;
}

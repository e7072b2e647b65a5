/** Just enough of WGSL's text to check rules that no compiler here checks. */

/** A loop or barrier and the blocks around it, outermost first. */
export interface Place {
  readonly line: number;
  /** The statement, or a loop's header. */
  readonly text: string;
  /** Headers of the blocks around it. */
  readonly blocks: readonly string[];
}

/** What the checks look at. */
export interface Outline {
  readonly barriers: readonly Place[];
  readonly loops: readonly Place[];
  readonly returns: readonly Place[];
  /** Names whose values differ between the lanes of a workgroup. */
  readonly varying: ReadonlySet<string>;
}

/** Walks over the blocks of a file. */
export function outlineOf(source: string): Outline {
  const code = source.replaceAll(/\/\/[^\n]*/g, "");
  const barriers: Place[] = [], loops: Place[] = [], returns: Place[] = [];
  const blocks: string[] = [];
  let statement = "", line = 1, depth = 0;
  for (const char of code) {
    if (char === "\n") line++;
    if (char === "(") depth++;
    if (char === ")") depth--;
    if (depth === 0 && (char === "{" || char === "}" || char === ";")) {
      const text = statement.replaceAll(/\s+/g, " ").trim();
      const place = { line, text, blocks: [...blocks] };
      if (/Barrier\s*\(/.test(text)) barriers.push(place);
      if (/^return\b/.test(text)) returns.push(place);
      if (char === "{") {
        if (/^(for|while|loop)\b/.test(text)) loops.push(place);
        blocks.push(text);
      }
      if (char === "}") blocks.pop();
      statement = "";
    } else statement += char;
  }
  return { barriers, loops, returns, varying: varyingNames(code) };
}

/** Follows assignments from the lane's number and from memory that lanes write. */
function varyingNames(code: string): Set<string> {
  const written = [...code.matchAll(/var<(?:storage, read_write|workgroup)>\s+(\w+)/g)]
    .map((match) => match[1]!);
  const varying = new Set(["lane", "id", ...written]);
  const assignments = [
    ...code.matchAll(/(?:let|var)?\s*\b(\w+)(?:\.\w+)?\s*(?::[^=;]+)?[-+*/|&]?=\s*([^=;][^;]*);/g),
  ];
  for (let before = -1; before !== varying.size;) {
    before = varying.size;
    for (const [, name, value] of assignments) {
      if (isVarying(value!, varying)) varying.add(name!);
    }
  }
  return varying;
}

/** Whether an expression differs between lanes. */
export function isVarying(expression: string, varying: ReadonlySet<string>): boolean {
  const words = expression.replaceAll(/\.\w+/g, "").match(/\b\w+\b/g) ?? [];
  return words.some((word) => varying.has(word));
}

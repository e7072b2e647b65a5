/**
 * What is done to a template's syntax tree before it runs: methods and filters whose library version
 * ignores an argument or can multiply text without bound are turned into calls of our own functions,
 * and facts about the template are gathered.
 */
import { FormatError } from "../errors.ts";

/** Facts about a template. */
export interface TemplateFacts {
  /** Variables the template mentions, whether set by itself or from outside. */
  readonly names: ReadonlySet<string>;
  /** Strings it compares with, searches for or cuts at, rather than writes. */
  readonly inspected: readonly string[];
}

interface Node {
  readonly type: string;
  [field: string]: unknown;
}

const methods = new Set(["strip", "lstrip", "rstrip", "replace"]);
const filters = new Set(["indent", "join", "replace"]);
const comparisons = new Set(["==", "!=", "in", "not in"]);
const MAX_JSON_INDENT = 16;

/**
 * Rewrites the tree in place and gathers facts.
 *
 * @throws {FormatError} on `tojson` with an indent that is not a small number
 */
export function inspectTemplate(program: unknown, source: string): TemplateFacts {
  const names = new Set<string>();
  const inspected = new Set<string>();
  const labels = new Set<unknown>();
  const enter = (node: Node): void => {
    for (const label of labelsOf(node)) labels.add(label);
    if (node.type === "Identifier" && !labels.has(node)) names.add(String(node.value));
  };
  const leave = (node: Node): Node => {
    if (node.type === "BinaryExpression" && comparisons.has(operatorOf(node))) {
      for (const side of [node.left, node.right]) addLiterals(side, inspected);
    }
    if (node.type === "CallExpression") addLiterals(node.args, inspected);
    if (node.type === "MemberExpression" && node.computed) addLiterals(node.property, inspected);
    if (node.type === "FilterStatement") refuseFilterBlock(node, source);
    requireSmallIndent(node, source);
    return rewriteMethod(rewriteFilter(node));
  };
  walk(program, enter, leave);
  return { names, inspected: [...inspected] };
}

/** Calls `enter` before a node's children and puts the result of `leave` in the node's place. */
function walk(value: unknown, enter: (node: Node) => void, leave: (node: Node) => Node): unknown {
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) value[i] = walk(value[i], enter, leave);
    return value;
  }
  if (value instanceof Map) {
    const entries = [...value];
    value.clear();
    for (const [key, item] of entries) value.set(walk(key, enter, leave), walk(item, enter, leave));
    return value;
  }
  if (!isNode(value)) return value;
  enter(value);
  for (const field of Object.keys(value)) value[field] = walk(value[field], enter, leave);
  return leave(value);
}

/** Identifiers that name a field, filter, test or argument rather than a variable. */
function labelsOf(node: Node): readonly unknown[] {
  switch (node.type) {
    case "MemberExpression":
      return node.computed ? [] : [node.property];
    case "FilterExpression":
    case "FilterStatement":
      return isNode(node.filter) ? [node.filter, node.filter.callee] : [];
    case "TestExpression":
      return [node.test];
    case "KeywordArgumentExpression":
      return [node.key];
    case "BinaryExpression":
    case "UnaryExpression":
      return [node.operator];
    default:
      return [];
  }
}

/** `text.strip(x)` becomes `$strip(text, x)`. */
function rewriteMethod(node: Node): Node {
  const { callee, args } = node;
  if (node.type !== "CallExpression" || !isNode(callee) || !Array.isArray(args)) return node;
  if (callee.type !== "MemberExpression" || callee.computed || !isNode(callee.property)) {
    return node;
  }
  const name = String(callee.property.value);
  if (!methods.has(name) || args.length === 0) return node;
  callee.property.value = `$${name}`;
  node.callee = callee.property;
  args.unshift(callee.object);
  return node;
}

/** `text | indent(x)` becomes `$indent(text, x)`. */
function rewriteFilter(node: Node): Node {
  if (node.type !== "FilterExpression" || !isNode(node.filter)) return node;
  const { callee, args } = node.filter;
  if (node.filter.type !== "CallExpression" || !isNode(callee) || !Array.isArray(args)) return node;
  const name = String(callee.value);
  if (!filters.has(name)) return node;
  callee.value = `$${name}`;
  args.unshift(node.operand);
  return node.filter;
}

function refuseFilterBlock(node: Node, source: string): void {
  const filter = node.filter;
  if (!isNode(filter) || filter.type !== "CallExpression" || !isNode(filter.callee)) return;
  const name = String(filter.callee.value);
  if (filters.has(name)) {
    throw new FormatError(`a filter block with ${name}() is not supported`, { source });
  }
}

function requireSmallIndent(node: Node, source: string): void {
  if (node.type !== "CallExpression" || !isNode(node.callee) || node.callee.value !== "tojson") {
    return;
  }
  for (const argument of Array.isArray(node.args) ? node.args : []) {
    if (!isNode(argument) || argument.type === "StringLiteral") continue;
    const named = argument.type === "KeywordArgumentExpression" && isNode(argument.key);
    const value = named ? argument.value : argument;
    const isIndent = !named || (isNode(argument.key) && argument.key.value === "indent");
    if (!isIndent) continue;
    const width = isNode(value) ? value.value : undefined;
    if (typeof width !== "number" || width > MAX_JSON_INDENT) {
      throw new FormatError(`tojson needs an indent of at most ${MAX_JSON_INDENT}`, { source });
    }
  }
}

/** Strings of a literal, or of the literals in a list. */
function addLiterals(value: unknown, out: Set<string>): void {
  if (Array.isArray(value)) { for (const item of value) addLiterals(item, out); }
  else if (isNode(value)) {
    if (typeof value.value === "string" && value.type === "StringLiteral") out.add(value.value);
    if (value.type === "KeywordArgumentExpression") addLiterals(value.value, out);
    if (value.type === "ArrayLiteral" || value.type === "TupleLiteral") {
      addLiterals(value.value, out);
    }
  }
}

function operatorOf(node: Node): string {
  const operator = node.operator;
  return typeof operator === "object" && operator !== null && "value" in operator
    ? String(operator.value)
    : "";
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value) && "type" in value &&
    typeof value.type === "string";
}

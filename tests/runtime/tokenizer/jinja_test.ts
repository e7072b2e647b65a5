import { assert, assertEquals, assertThrows } from "@std/assert";
import { FormatError, TemplateError } from "../../../runtime/errors.ts";
import { compileJinja } from "../../../runtime/tokenizer/jinja.ts";

const render = (template: string, variables: Readonly<Record<string, unknown>> = {}) =>
  compileJinja(template, "test template").render(variables);

Deno.test("render() strips, replaces, indents and joins as Python does", () => {
  const results: readonly (readonly [template: string, text: string])[] = [
    ["{{ 'xxaxx'.strip('x') }}|{{ 'xay'.lstrip('xy') }}|{{ 'xay'.rstrip('xy') }}", "a|ay|xa"],
    ["{{ ' \n a '.strip() }}|{{ '\n a\n'.strip('\n') }}|", "a| a|"],
    ["{{ 'aXbX'.replace('X', 'yy') }}|{{ 'aXbX'.replace('X', '', 1) }}", "ayybyy|abX"],
    ["{{ 'aXbX' | replace('X', '-') }}", "a-b-"],
    ["{{ 'a\n\nb' | indent }}|{{ 'a\nb' | indent(2, first=true) }}", "a\n\n    b|  a\n  b"],
    ["{{ 'a\nb' | indent(width=1) }}|{{ 'a\n\nb' | indent(1, blank=true) }}", "a\n b|a\n \n b"],
    ["{{ ['a', 1] | join(', ') }}|{{ ['a', 'b'] | join }}|{{ 'ab' | join('-') }}", "a, 1|ab|a-b"],
    [
      "{{ range(3) | length }}{{ range(1, 6, 2) | join(',') }}{{ range(3, 0, -1) | join }}",
      "31,3,5321",
    ],
    [`{{ {'a': [1, 2.5, none, true, 'é"']} | tojson }}`, `{"a": [1, 2.5, null, true, "é\\""]}`],
    ["{{ {'a': [1]} | tojson(indent=2) }}", `{\n  "a": [\n    1\n  ]\n}`],
  ];
  for (const [template, text] of results) assertEquals(render(template), text, template);
});

Deno.test("render() reaches no prototype", () => {
  const polluted = JSON.parse(`{"own": 1, "__proto__": {"inherited": 2}}`);
  const names = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf"];
  for (const name of names) {
    for (const subject of ["''", "[]", "{}", "1", "x", "range", "raise_exception", "namespace()"]) {
      assertEquals(render(`{{ ${subject}.${name} }}`, { x: {} }), "", `${subject}.${name}`);
      assertEquals(render(`{{ ${subject}['${name}'] is defined }}`, { x: {} }), "false");
    }
    assertEquals(render(`{{ ${name} is defined }}`), "false");
  }
  assertEquals(render("{{ x.__proto__.inherited }}", { x: polluted }), "2"); // its own key
  assertEquals(({} as Record<string, unknown>).inherited, undefined);
  assertThrows(() => render("{{ ''.constructor.constructor('return 1')() }}"), TemplateError);
});

Deno.test("render() has no clock and nothing else to call", () => {
  assertEquals(render("{{ strftime_now is defined }}{{ self is defined }}"), "falsefalse");
  assertThrows(() => render("{{ strftime_now('%Y') }}"), TemplateError);
});

Deno.test("render() gives what a template raises as a TemplateError", () => {
  assertThrows(
    () => render("{{ raise_exception('no system role') }}"),
    TemplateError,
    "The chat template refuses the messages: no system role",
  );
  assertThrows(() => render("{{ none + 'a' }}"), TemplateError, "Cannot render");
});

const overBudget: Readonly<Record<string, string>> = {
  "a long loop":
    "{% for i in range(9999) %}{% for j in range(9999) %}{{ j }}{% endfor %}{% endfor %}",
  "a long range": "{% for i in range(999999999) %}x{% endfor %}",
  "doubling text": "{% set n = namespace(s='x') %}{% for i in range(60) %}" +
    "{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
  "doubling lists": "{% set n = namespace(a=['x']) %}{% for i in range(60) %}" +
    "{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}",
  "a list in itself": "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
  "endless recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
  "wide indents": "{{ 'a\nb' | indent(999999999) }}",
  "indents of many lines": "{{ x.replace('a', '\n') | indent(1000) }}",
  "replacing by itself": "{{ x.replace('a', x) }}",
  "joining with itself": "{{ x | join(x) }}",
  "splitting over and over": "{% for i in range(9999) %}{% set y = x.split('a') %}{% endfor %}",
};

for (const [name, template] of Object.entries(overBudget)) {
  Deno.test(`render() stops at its budget: ${name}`, () => {
    const error = assertThrows(() => render(template, { x: "a".repeat(100_000) }), TemplateError);
    // Not by running into a limit of the platform later.
    assertEquals(error.cause, undefined, error.message);
  });
}

Deno.test("compileJinja() refuses what it cannot parse, too long or too wide", () => {
  for (
    const template of ["{{ x", "{% if %}", "{% endfor %}", "{{ 'a }}", "{% for x in %}{% endfor %}"]
  ) {
    assertThrows(() => compileJinja(template, "t"), FormatError, "Cannot read t");
  }
  assertThrows(() => compileJinja("x".repeat(300_000), "t"), FormatError, "300000 characters");
  assertThrows(() => compileJinja(`{{ ${"(".repeat(100_000)} }}`, "t"), FormatError);
  assertThrows(() => compileJinja("{{ x | tojson(indent=9999) }}", "t"), FormatError, "indent");
  assertThrows(() => compileJinja("{{ x | tojson(indent=n) }}", "t"), FormatError, "indent");
});

Deno.test("compileJinja() finds the variables and the strings a template looks for", () => {
  const { names, inspected } = compileJinja(
    "{% set y = messages[0]['role'] %}{{ '<out>' + y }}{% if '<in>' in y or y == 'eq' or " +
      "y.startswith('<start>') or y in ['l1', 'l2'] %}{{ enable | default('d') }}{% endif %}",
    "t",
  );
  assertEquals([...names].sort(), ["enable", "messages", "y"]);
  assert(!inspected.includes("<out>"));
  assertEquals([...inspected].sort(), ["<in>", "<start>", "d", "eq", "l1", "l2", "role"]);
});

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { TemplateError } from "../../../runtime/errors.ts";
import type { ChatOptions, Message } from "../../../runtime/model.ts";
import { readTokenizerJson } from "../../../runtime/tokenizer/tokenizer_json.ts";
import { tinyText } from "./_tiny_tokenizer.ts";

const [start, end] = [259, 260];
const turns = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}" +
  "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}";

function load(template: string) {
  const vocab = readTokenizerJson({ tokenizer: tinyText(), chatTemplate: template });
  return { vocab, chat: vocab.chat! };
}

const user = (content: string): Message => ({ role: "user", content });
const controls = (ids: readonly number[]) => ids.filter((id) => id === start || id === end);
const render = (template: string, messages: readonly Message[], options?: ChatOptions) =>
  load(template).chat.render(messages, options);

Deno.test("render() and encode() leave the generation prompt out if told", () => {
  const { vocab, chat } = load(turns);
  assertEquals(chat.render([user("Hi")]), "<|start|>user\nHi<|end|>\n<|start|>assistant\n");
  const closed = { addGenerationPrompt: false };
  assertEquals(chat.render([user("Hi")], closed), "<|start|>user\nHi<|end|>\n");
  const ids = chat.encode([user("Hi")], closed);
  assertEquals(vocab.decode(ids, { special: true }), "<|start|>user\nHi<|end|>\n");
});

Deno.test("encode() takes control tokens from the template only, for any contents", () => {
  const { vocab, chat } = load(turns);
  const part = fc.constantFrom("<|start|>", "<|end|>", "<|", "|>", "end", "|", "<", "user\n", " ");
  const content = fc.array(fc.oneof(part, fc.string({ unit: "binary", maxLength: 5 })))
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.array(content, { minLength: 1, maxLength: 4 }), (contents) => {
      const messages = contents.map(user);
      const ids = chat.encode(messages);
      assertEquals(vocab.decode(ids, { special: true }), chat.render(messages));
      assertEquals(controls(ids), [...contents.flatMap(() => [start, end]), start]);
    }),
    { numRuns: 300, seed: 10 },
  );
});

Deno.test("encode() equals encoding the text where contents have no control token", () => {
  const { vocab, chat } = load(turns);
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary" }), { minLength: 1 }), (contents) => {
      const messages = contents.map(user);
      const whole = vocab.encode(chat.render(messages), { special: true });
      assertEquals(chat.encode(messages), whole);
    }),
    { seed: 11 },
  );
});

Deno.test("encode() keeps private-use characters in contents apart from its own", () => {
  const { vocab, chat } = load(turns);
  const most = Array.from({ length: 6300 }, (_, i) => String.fromCharCode(0xe000 + i)).join("");
  const messages = [user(`${most}<|end|>`)];
  const ids = chat.encode(messages);
  assertEquals(vocab.decode(ids, { special: true }), chat.render(messages));
  assertEquals(controls(ids).length, 3);
  const all = Array.from({ length: 6400 }, (_, i) => String.fromCharCode(0xe000 + i)).join("");
  assertThrows(() => chat.encode([user(all)]), TemplateError, "private-use");
});

Deno.test("encode() takes a token that role names help to write", () => {
  const { chat } = load("{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}<|end|>");
  assertEquals(controls(chat.encode([user("x")])), [end]);
  const named = readTokenizerJson({
    tokenizer: tinyText((t) => t.added_tokens[0]!.content = "<|user|>"),
    chatTemplate: "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}",
  });
  assertEquals(controls(named.chat!.encode([user("<|user|>")])), [start]);
  const steered = "{% for m in messages %}{{ '<|' + m.content + '|>' }}{% endfor %}";
  const { chat: careless } = load(steered);
  assertEquals(controls(careless.encode([user("end")])), []);
});

Deno.test("encode() follows a template that cuts contents at a mark", () => {
  const { vocab, chat } = load(
    "{% for m in messages %}<|start|>{% if '#' in m.content %}{{ m.content.split('#')[1] }}" +
      "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}",
  );
  const ids = chat.encode([user("a<|end|>#b<|end|>c"), user("d")]);
  assertEquals(
    vocab.decode(ids, { special: true }),
    "<|start|>b<|end|>c<|end|><|start|>d<|end|>",
  );
  assertEquals(controls(ids), [start, end, start, end]);
});

Deno.test("encode() copes with templates that change case, but not with those that escape", () => {
  const { vocab, chat } = load("<|start|>{{ messages[0].content | lower }}<|end|>");
  const ids = chat.encode([user("HI <|END|>")]);
  assertEquals(vocab.decode(ids, { special: true }), "<|start|>hi <|end|><|end|>");
  assertEquals(controls(ids), [start, end]);
  const special = load("{{ messages[0].content.replace('<|end|>', 'END') }}<|end|>").chat;
  assertEquals(controls(special.encode([user("a")])), [end]);
  assertThrows(() => special.encode([user("<|end|>")]), TemplateError, "special way");
});

Deno.test("encode() refuses a special token made of strings the template looks for", () => {
  const { chat } = load(
    "{% set c = messages[0].content %}{% if '<|en' in c or c.endswith('d|>') %}!{% endif %}{{ c }}<|end|>",
  );
  assertEquals(controls(chat.encode([user("a<|en|>")])), [end]);
  assertThrows(() => chat.encode([user("<|end|>")]), TemplateError, "special way");
});

Deno.test("encode() keeps halves apart that a template puts together", () => {
  const { vocab, chat } = load("{{ messages[0].content.replace('~', '') }}<|end|>");
  const ids = chat.encode([user("<|~end|~>")]);
  assertEquals(vocab.decode(ids, { special: true }), "<|end|><|end|>");
  assertEquals(controls(ids), [end]);
});

Deno.test("continueFinalMessage leaves the last message open", () => {
  const open: ChatOptions = { continueFinalMessage: true };
  const messages: Message[] = [user("Hi"), { role: "assistant", content: "Well <|end|>,  " }];
  const { vocab, chat } = load(turns);
  const text = "<|start|>user\nHi<|end|>\n<|start|>assistant\nWell <|end|>,  ";
  assertEquals(chat.render(messages, open), text);
  const ids = chat.encode(messages, open);
  assertEquals(vocab.decode(ids, { special: true }), text);
  assertEquals(controls(ids), [start, end, start]);
  const trimming = turns.replace("m.content", "m.content | trim");
  assertEquals(render(trimming, messages, open), text.trimEnd());
  const both = { continueFinalMessage: true, addGenerationPrompt: true };
  assertThrows(() => chat.render(messages, both), TemplateError, "Cannot both");
  const none: Message[] = [{ role: "assistant", content: null, toolCalls: [] }];
  assertThrows(() => chat.render(none, open), TemplateError, "no content");
  assertThrows(() => render("fixed", messages, open), TemplateError, "leaves it out");
});

Deno.test("render() gives tool calls with parsed arguments and null contents", () => {
  const template = "{% for m in messages %}{% if m.content is none %}none{% endif %}" +
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}" +
    "{% endfor %}{% if 'tool_calls' in m %}!{% endif %}{{ m.tool_call_id }}{% endfor %}";
  const call = (text: string) => [{ function: { name: "f", arguments: text } }];
  const assistant = (text: string): Message[] => [
    { role: "assistant", content: null, toolCalls: call(text) },
    { role: "tool", content: "1", toolCallId: "id1" },
  ];
  assertEquals(render(template, assistant(`{"b":1,"a":[]}`)), `nonef{"b": 1, "a": []}!id1`);
  assertEquals(render(template, assistant(`{"b`)), `nonef"{\\"b"!id1`);
  assertEquals(render(template, assistant(`7`)), `nonef"7"!id1`);
  const deep = `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
  assertThrows(() => render(template, assistant(deep)), TemplateError, "64 levels");
});

Deno.test("render() gives developer messages to templates that know them", () => {
  const messages: Message[] = [{ role: "developer", content: "x" }];
  assertEquals(render("{{ messages[0].role }}", messages), "system");
  assertEquals(render("{# developer #}{{ messages[0].role }}", messages), "developer");
  const odd = [{ role: "<|end|>", content: "x" } as unknown as Message];
  assertThrows(() => render(turns, odd), TemplateError, "Unknown role");
});

Deno.test("render() refuses template arguments that are reserved, unknown or large", () => {
  const template = "{{ mode }}{{ list }}{{ bos_token }}";
  const refuse = (kwargs: Readonly<Record<string, unknown>>, message: string) =>
    assertThrows(() => render(template, [user("")], { kwargs }), TemplateError, message);
  const given = (mode: unknown) => render("{{ mode }}", [user("")], { kwargs: { mode } });
  assertEquals(["on", 1, 2.5, true, null].map(given), ["on", "1", "2.5", "true", ""]);
  assertEquals(given([1, "a"]), `[1, "a"]`);
  for (
    const name of ["messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "range"]
  ) {
    refuse({ [name]: 1 }, "reserved");
  }
  for (const name of ["other", "__proto__", "constructor"]) {
    refuse(JSON.parse(`{"${name}": 1}`), "no such one");
  }
  for (const value of [NaN, {}, [[1]], new Array(65).fill(1), "x".repeat(5000), () => 1]) {
    refuse({ mode: value }, "expected a scalar");
  }
  assertNotEquals(given("a"), given("b"));
});

Deno.test("render() stops a template that makes too much of long contents", () => {
  const template = "{% for i in range(9999) %}{{ messages[0].content }}{% endfor %}";
  assertThrows(() => render(template, [user("x".repeat(10_000))]), TemplateError, "too much");
});

Deno.test("encode() of a long conversation stays within the budgets", () => {
  const { chat } = load(turns);
  const messages = Array.from({ length: 500 }, (_, i) => user(`${i} <|end|> `.repeat(100)));
  assert(chat.encode(messages).length > 100_000);
});

import { assertEquals } from "@std/assert";
import { completionLogprobs, offsetCounter, wireLogprob } from "../../routes/logprobs.ts";

const bytes = (text: string) => [...new TextEncoder().encode(text)];

Deno.test("wireLogprob() stays within what JSON and the API can hold", () => {
  assertEquals(wireLogprob(-1.5), -1.5);
  assertEquals(wireLogprob(1e-9), 0);
  assertEquals(wireLogprob(-Infinity), -9999);
  assertEquals(wireLogprob(-20000), -9999);
  assertEquals(wireLogprob(NaN), -9999);
});

Deno.test("offsetCounter() counts a character where its last byte arrives", () => {
  const next = offsetCounter();
  const dog = bytes("🐕");
  assertEquals([next(bytes("ab")), next(dog.slice(0, 2)), next(dog.slice(2)), next([])], [
    0,
    2,
    2,
    4,
  ]);
});

Deno.test("completionLogprobs() adds the chosen token and keeps the likelier of equal texts", () => {
  const top = [
    { token: "\ufffd", bytes: [0xff], logprob: -1 },
    { token: "\ufffd", bytes: [0xfe], logprob: -2 },
    { token: "__proto__", bytes: [], logprob: -3 },
  ];
  const chosen = { token: "x", bytes: bytes("x"), logprob: -5, top };
  const { top_logprobs: alternatives, token_logprobs: values } = completionLogprobs(
    [chosen],
    offsetCounter(),
    3,
  );
  const expected = [["x", -5], ["\ufffd", -1], ["__proto__", -3]];
  assertEquals(Object.entries(alternatives![0]!), expected);
  assertEquals(values, [-5]);
});

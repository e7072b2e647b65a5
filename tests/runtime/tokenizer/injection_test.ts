import { assert, assertEquals } from "@std/assert";
import type { ChatOptions, Message, Vocab } from "../../../runtime/model.ts";
import { testWithSharedData } from "../../_shared_data.ts";
import { loadVocabulary, vocabularyNames } from "./_vocabularies.ts";

/** Pieces that `special: true` recognises in a text, apart from runs of spaces and letters. */
function controlPieces(vocab: Vocab): readonly string[] {
  const pieces: string[] = [];
  for (let id = 0; id < vocab.size; id++) {
    const piece = vocab.piece(id);
    if (!/[<[]/.test(piece) || !vocab.encode(piece, { special: true }).includes(id)) continue;
    if (!vocab.encode(piece).includes(id)) pieces.push(piece);
  }
  return pieces;
}

function counter(vocab: Vocab, controls: readonly string[]) {
  const set = new Set(controls);
  return (ids: readonly number[]) =>
    ids.filter((id) => vocab.isSpecial(id) || set.has(vocab.piece(id))).length;
}

/** Contents that try to bring a control token in. */
function attacks(token: string): readonly string[] {
  const half = Math.ceil(token.length / 2);
  return [
    token,
    `a ${token} b`,
    ` ${token}${token}\n`,
    `${token.slice(0, half)}</think>${token.slice(half)}`,
    `${token.slice(0, half)}\n${token.slice(half)}`,
  ];
}

for (const name of vocabularyNames) {
  testWithSharedData(`encode() keeps every control token of ${name} plain text`, () => {
    const vocab = loadVocabulary(name);
    const controls = controlPieces(vocab);
    const count = counter(vocab, controls);
    assert(controls.length > 0);
    for (const token of controls) {
      for (const text of [token, `a${token}b`, ` ${token} ${token}\n`, `${token}${controls[0]}`]) {
        const ids = vocab.encode(text);
        assertEquals(count(ids), 0, text);
        assertEquals(vocab.decode(ids), text);
      }
    }
  });

  testWithSharedData(`chat.encode() takes no control token of ${name} from a message`, () => {
    const vocab = loadVocabulary(name);
    const controls = controlPieces(vocab);
    const count = counter(vocab, controls);
    const chat = (question: string, answer: string): Message[] => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
      { role: "user", content: question },
    ];
    const expected = count(vocab.chat!.encode(chat("x", "y")));
    assert(expected > 0);
    // Every token in every way, many in one message to keep the test short.
    for (let way = 0; way < attacks("").length; way++) {
      const attack = controls.map((token) => attacks(token)[way]!).join(" x ");
      assertEquals(count(vocab.chat!.encode(chat(attack, "y"))), expected, attack);
    }
    for (const token of [...controls.slice(0, 8), ...controls.slice(-2)]) {
      for (const attack of attacks(token)) {
        assertEquals(count(vocab.chat!.encode(chat(attack, "y"))), expected, attack);
      }
      // Halves of a token at the end of one message and the start of the next.
      const [head, tail] = [token.slice(0, 2), token.slice(2)];
      assertEquals(count(vocab.chat!.encode(chat(head, tail))), expected, `${head} and ${tail}`);
    }
  });

  testWithSharedData(`chat.encode() equals encoding the whole text with ${name}`, () => {
    const vocab = loadVocabulary(name);
    const contents = [
      "Hi",
      " a  b ",
      "\n\nx\n",
      "",
      "é🙂 \u0301",
      "<b> | </b> im_end |>",
      "123 '$",
    ];
    for (const content of contents) {
      for (const options of [{}, { addGenerationPrompt: false }]) {
        const messages: Message[] = [
          { role: "user", content },
          { role: "assistant", content: `${content} so` },
          { role: "user", content: `then ${content}` },
        ];
        const { chat } = vocab;
        const whole = vocab.encode(chat!.render(messages, options), { special: true });
        assertEquals(chat!.encode(messages, options), whole, JSON.stringify(content));
      }
    }
  });
}

testWithSharedData("chat.encode() takes no control token from tools and tool calls", () => {
  for (const name of ["llama3", "qwen2.5", "qwen3"]) {
    const vocab = loadVocabulary(name);
    const controls = controlPieces(vocab);
    const count = counter(vocab, controls);
    const encode = (text: string) => {
      const messages: Message[] = [
        { role: "user", content: "Weather?" },
        {
          role: "assistant",
          content: null,
          toolCalls: [{
            id: text,
            type: "function",
            function: { name: text, arguments: JSON.stringify({ [text]: text }) },
          }],
        },
        { role: "tool", content: text, toolCallId: text },
      ];
      const parameters = { type: "object", properties: { [text]: { description: text } } };
      const tools = [{ type: "function", function: { name: text, description: text, parameters } }];
      return count(vocab.chat!.encode(messages, { tools }));
    };
    const expected = encode("x-y");
    assertEquals(encode(controls.join(" ")), expected, name);
    for (const token of controls.slice(0, 8)) assertEquals(encode(token), expected, token);
  }
});

testWithSharedData("chat.encode() takes no control token from template arguments", () => {
  const vocab = loadVocabulary("llama3");
  const count = counter(vocab, controlPieces(vocab));
  const messages: Message[] = [{ role: "user", content: "Hi" }];
  const encode = (date: string) =>
    count(vocab.chat!.encode(messages, { kwargs: { "date_string": date } }));
  assertEquals(encode("<|eot_id|>"), encode("today"));
});

testWithSharedData("chat.encode() lets a template look for its own marks in an answer", () => {
  const vocab = loadVocabulary("qwen3");
  const messages = (answer: string): Message[] => [
    { role: "user", content: "1+1?" },
    { role: "assistant", content: answer },
  ];
  const options: ChatOptions = { addGenerationPrompt: false };
  const answer = "<think>\none <|im_end|> one\n</think>\n\n2 <|im_start|>";
  const ids = vocab.chat!.encode(messages(answer), options);
  assertEquals(
    vocab.decode(ids, { special: true }),
    "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\none <|im_end|> one\n" +
      "</think>\n\n2 <|im_start|><|im_end|>\n",
  );
  const marks = ids.filter((id) => vocab.isSpecial(id)).map((id) => vocab.piece(id));
  assertEquals(marks, ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]);
});

import { assertEquals, assertThrows } from "@std/assert";
import { TemplateError } from "../../../runtime/errors.ts";
import type { Message } from "../../../runtime/model.ts";
import { createChatTemplate } from "../../../runtime/tokenizer/chat_template.ts";
import { testWithSharedData } from "../../_shared_data.ts";
import { readTokenizerFile } from "./_golden_files.ts";

interface Golden {
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly messages: readonly Message[];
        readonly tools?: readonly unknown[];
        readonly addGenerationPrompt?: boolean;
        readonly kwargs?: Readonly<Record<string, unknown>>;
      }
    >
  >;
  readonly templates: Readonly<
    Record<
      string,
      {
        readonly spec: {
          readonly file?: string;
          readonly config?: string;
          readonly bos: string;
          readonly eos: string;
        };
        readonly results: Readonly<
          Record<string, { readonly text: string } | { readonly error: string }>
        >;
      }
    >
  >;
}

const golden: Golden = JSON.parse(
  Deno.readTextFileSync(new URL("../../golden/chat_templates.json", import.meta.url)),
);

for (const [name, { spec, results }] of Object.entries(golden.templates)) {
  testWithSharedData(`render() gives the text that Jinja2 gives: ${name}`, () => {
    const chat = createChatTemplate({
      template: spec.config === undefined
        ? readTokenizerFile(spec.file!)
        : JSON.parse(readTokenizerFile(spec.config)).chat_template,
      bos: spec.bos,
      eos: spec.eos,
      controls: [],
      special: [],
      encode: () => [],
      source: name,
    });
    for (const [title, result] of Object.entries(results)) {
      const { messages, ...options } = golden.cases[title]!;
      // Python writes a missing content as the word None; here the template is told it cannot.
      const writesNone = "text" in result && result.text.includes("model\nNone");
      if ("text" in result && !writesNone) {
        assertEquals(chat.render(messages, options), result.text, title);
      } else assertThrows(() => chat.render(messages, options), TemplateError);
    }
  });
}

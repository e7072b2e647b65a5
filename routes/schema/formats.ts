// deno-lint-ignore-file camelcase -- names as on the wire
/** Tools: their shape, and what we refuse of them for now. */
import * as z from "zod";
import type { Limits } from "../deps.ts";
import { invalidValue, unsupported } from "../errors.ts";

const jsonSchemaName = /^[A-Za-z0-9_-]{1,64}$/;

/** Fields about tools. */
export function toolFields(limits: Limits) {
  const definition = z.looseObject({
    type: z.literal("function"),
    function: z.looseObject({
      name: z.string().regex(jsonSchemaName, "must be 1 to 64 of A-Z a-z 0-9 _ -"),
      description: z.string().nullish(),
      parameters: z.record(z.string(), z.unknown()).nullish(),
      strict: z.boolean().nullish(),
    }),
  });
  return {
    tools: z.array(definition).min(1).max(limits.tools).nullish(),
    tool_choice: z.union([
      z.enum(["none", "auto", "required"]),
      z.looseObject({
        type: z.literal("function"),
        function: z.looseObject({ name: z.string() }),
      }),
    ]).nullish(),
    parallel_tool_calls: z.boolean().nullish(),
  };
}

type ToolRequest = z.output<z.ZodObject<ReturnType<typeof toolFields>>>;

/**
 * Checks what the schema cannot say about tools, then refuses them: no strategy here constrains its
 * output to tool calls yet, and tools that are never called would be a quiet lie.
 *
 * @throws {ApiError}
 */
export function checkTools({ tools, tool_choice }: ToolRequest): void {
  const choice = tool_choice ?? undefined;
  if (!tools) {
    if (choice !== undefined && choice !== "none") {
      throw invalidValue("tool_choice", "tool_choice needs tools");
    }
    return;
  }
  if (typeof choice === "object" && !tools.some((t) => t.function.name === choice.function.name)) {
    throw invalidValue(
      "tool_choice.function.name",
      "tool_choice names a tool that is not in tools",
    );
  }
  throw unsupported("tools", "Tool calls are not supported yet");
}

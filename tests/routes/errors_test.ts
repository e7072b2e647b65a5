import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ApiError, errorResponse, toApiError } from "../../routes/errors.ts";
import { errorSchema } from "../../routes/schema/responses.ts";
import {
  CapabilityError,
  ConstraintError,
  ContextLengthError,
  DeviceLostError,
  EngineError,
  FormatError,
  NotFoundError,
  OutOfMemoryError,
  OutOfPagesError,
  ShapeError,
  TemplateError,
  UpstreamError,
} from "../../runtime/mod.ts";
import { StrategyParamError } from "../../strategies/mod.ts";

const request = "invalid_request_error", server = "server_error";

/** Every class of the floors below: status, type, code, param. */
const table: readonly [unknown, number, string, string, string | null][] = [
  [
    new StrategyParamError("beam", "num_beams", "x"),
    400,
    request,
    "invalid_strategy_param",
    "decoding.params.num_beams",
  ],
  [new StrategyParamError("beam", "n", "x"), 400, request, "invalid_strategy_param", "n"],
  [
    new StrategyParamError("beam", "", "x"),
    400,
    request,
    "invalid_strategy_param",
    "decoding.params",
  ],
  [new ContextLengthError(9, 1, 8), 400, request, "context_length_exceeded", "messages"],
  [new NotFoundError("model", "x"), 404, request, "model_not_found", "model"],
  [new NotFoundError("strategy", "x"), 400, request, "unknown_strategy", "decoding.strategy"],
  [new NotFoundError("policy", "x"), 400, request, "invalid_value", "decoding.kv_policy.name"],
  [new NotFoundError("file", "x"), 500, server, "internal_error", null],
  [new CapabilityError("m", ["logits"]), 400, request, "strategy_unsupported", null],
  [new TemplateError("x"), 400, request, "invalid_value", "messages"],
  [new FormatError("x", { source: "json schema" }), 400, request, "invalid_schema", null],
  [new OutOfPagesError(3, 2), 503, server, "overloaded", null],
  [new OutOfMemoryError("x", 3, 2), 503, server, "overloaded", null],
  [new DeviceLostError("x"), 503, server, "device_lost", null],
  [new ConstraintError("regex", "x"), 500, server, "engine_error", null],
  [new EngineError("x"), 500, server, "engine_error", null],
  [new UpstreamError("u", 500, "x"), 502, server, "upstream_error", null],
  [new ShapeError("matmul", "x"), 500, server, "internal_error", null],
  [new TypeError("x"), 500, server, "internal_error", null],
  [new Error("x"), 500, server, "internal_error", null],
  ["text", 500, server, "internal_error", null],
  [undefined, 500, server, "internal_error", null],
  [new ApiError(429, "queue_full", "x"), 429, "rate_limit_error", "queue_full", null],
  [new ApiError(403, "model_not_allowed", "x"), 403, "permission_error", "model_not_allowed", null],
];

Deno.test("toApiError() gives every class its status, type, code and param", () => {
  for (const [error, ...expected] of table) {
    const apiError = toApiError(error, { requestId: "r", checking: true });
    const { type, code, param } = errorSchema.parse(apiError.body()).error;
    assertEquals([apiError.status, type, code, param], expected, String(error));
  }
});

Deno.test("a plain RangeError is the request's fault only while the request is checked", () => {
  const error = new RangeError("too many");
  assertEquals(toApiError(error, { requestId: "r", checking: true }).status, 400);
  assertEquals(toApiError(error, { requestId: "r", checking: false }).status, 500);
});

Deno.test("an unknown error tells the request id and nothing else", () => {
  const error = new Error("secret at /home/x");
  const { message } = toApiError(error, { requestId: "req_7", checking: false });
  assertStringIncludes(message, "req_7");
  assert(!message.includes("secret"));
});

Deno.test("429 and 503 carry Retry-After, a hopeless 503 also x-should-retry", () => {
  for (const [error, status] of table) {
    if (status !== 503) continue;
    const response = errorResponse(toApiError(error, { requestId: "r", checking: false }));
    assert(Number(response.headers.get("retry-after")) > 0);
  }
  const hopeless = toApiError(new OutOfPagesError(2, 1), { requestId: "r", checking: false });
  assertEquals(errorResponse(hopeless).headers.get("x-should-retry"), "false");
});

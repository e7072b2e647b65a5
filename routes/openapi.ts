/** `GET /openapi.json`: made from the schemas that validate. */
import * as z from "zod";
import { acceptedKeys } from "./auth.ts";
import * as responses from "./schema/responses.ts";
import type { AppContext, Schemas, Services } from "./services.ts";

/** One operation, in words and schemas. */
export interface Operation {
  readonly method: "get" | "post";
  /** OpenAPI path. */
  readonly path: string;
  readonly summary: string;
  readonly request?: keyof Schemas;
  readonly response: z.ZodType | "text/plain" | "text/html";
  /** Schema of the events with `stream: true`. */
  readonly events?: z.ZodType;
  readonly public?: boolean;
}

/** What the gateway can do over HTTP, in reading order. */
export const operations: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/chat/completions",
    summary: "Answer a conversation, decoded the way the request chooses",
    request: "chat",
    response: responses.chatCompletionSchema,
    events: responses.chatChunkSchema,
  },
  {
    method: "post",
    path: "/v1/completions",
    summary: "Continue a text or token ids",
    request: "completion",
    response: responses.completionResponseSchema,
    events: responses.completionResponseSchema,
  },
  op("get", "/v1/models", "List models and aliases", responses.modelListSchema),
  op("get", "/v1/models/{id}", "One model; ids may contain slashes", responses.modelSchema),
  op(
    "get",
    "/v1/strategies",
    "List strategies, their parameters and which models can run them",
    responses.strategyListSchema,
  ),
  op("get", "/v1/strategies/{name}", "One strategy", responses.strategySchema),
  op(
    "get",
    "/v1/kv-policies",
    "List KV policies, their parameters and which models can run them",
    responses.kvPolicyListSchema,
  ),
  {
    ...op("post", "/tokenize", "Token ids of a text or a chat", responses.tokenizeResponseSchema),
    request: "tokenize",
  },
  {
    ...op("post", "/detokenize", "Text of token ids", responses.detokenizeResponseSchema),
    request: "detokenize",
  },
  op(
    "get",
    "/admin/models",
    "Models of the configuration (admin key)",
    responses.adminModelsSchema,
  ),
  op(
    "post",
    "/admin/models/load",
    "Load a model of the configuration; idle ones make room (admin key)",
    responses.adminModelSchema,
  ),
  op(
    "post",
    "/admin/models/unload",
    "Unload a model when what it runs has finished (admin key)",
    responses.adminModelSchema,
  ),
  { ...op("get", "/health", "Whether the process answers", responses.statusSchema), public: true },
  { ...op("get", "/ready", "Whether models are loaded", responses.statusSchema), public: true },
  op("get", "/metrics", "Counters in Prometheus' text format", "text/plain"),
  op("get", "/openapi.json", "This description", z.looseObject({})),
];

function op(
  method: Operation["method"],
  path: string,
  summary: string,
  response: Operation["response"],
): Operation {
  return { method, path, summary, response };
}

const documents = new WeakMap<Services, unknown>();

/** The description as JSON, built on the first request. */
export function openapi(_c: AppContext, services: Services): Response {
  let document = documents.get(services);
  if (!document) documents.set(services, document = describeApi(services));
  return Response.json(document);
}

/** An OpenAPI 3.1 document. */
export function describeApi({ schemas, deps }: Services): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    (paths[operation.path] ??= {})[operation.method] = describe(operation, schemas);
  }
  const withKey = acceptedKeys(deps).length > 0;
  return {
    openapi: "3.1.0",
    info: {
      title: "Decant",
      version: deps.version ?? "0.0.0",
      description: "OpenAI-compatible gateway that lets each request choose how the model decodes.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    paths,
    components: {
      schemas: { Error: toJson(responses.errorSchema) },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
    ...withKey ? { security: [{ key: [] }] } : {},
  };
}

/** JSON schema of what a request may send. */
function toJson(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}

function describe(operation: Operation, schemas: Schemas): Record<string, unknown> {
  const { summary, request, path, method } = operation;
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
  const parameters = [
    ...names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
    ...operation.events ? decodingHeaders : [],
  ];
  return {
    operationId: `${method}${
      path.replaceAll(/[^A-Za-z]+(\w?)/g, (_, c: string) => c.toUpperCase())
    }`,
    summary,
    ...parameters.length > 0 ? { parameters } : {},
    ...request ? { requestBody: { required: true, content: json(toJson(schemas[request])) } } : {},
    responses: {
      200: { description: "The answer", content: content(operation) },
      default: { description: "An error", content: json({ $ref: "#/components/schemas/Error" }) },
    },
    ...operation.public ? { security: [] } : {},
  };
}

const decodingHeaders = [
  {
    name: "X-Decoding-Strategy",
    in: "header",
    description: "Strategy with parameters, an RFC 9651 item: beam;num_beams=4",
    schema: { type: "string" },
  },
  {
    name: "X-KV-Policy",
    in: "header",
    description: "KV policy with parameters, an RFC 9651 item",
    schema: { type: "string" },
  },
  {
    name: "X-Request-Timeout-Ms",
    in: "header",
    description: "Deadline for the whole request",
    schema: { type: "integer", minimum: 1 },
  },
];

function json(schema: Record<string, unknown>) {
  return { "application/json": { schema } };
}

function content({ response, events }: Operation): Record<string, unknown> {
  if (typeof response === "string") return { [response]: { schema: { type: "string" } } };
  return {
    ...json(toJson(response)),
    ...events ? { "text/event-stream": { schema: toJson(events) } } : {},
  };
}

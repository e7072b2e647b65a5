/** What every handler is given. */
import type { Context } from "hono";
import type { ConstraintCompiler } from "../runtime/mod.ts";
import type { AppDeps } from "./deps.ts";
import type { Leases } from "./leases.ts";
import type { Metrics } from "./metrics.ts";
import type { Queue } from "./queue.ts";
import type { RateStore } from "./rates.ts";
import type { chatSchema } from "./schema/chat.ts";
import type { completionSchema, detokenizeSchema, tokenizeSchema } from "./schema/completions.ts";
import type { AppEnv } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** The schemas that validate requests, built from the configured limits. */
export interface Schemas {
  readonly chat: ReturnType<typeof chatSchema>;
  readonly completion: ReturnType<typeof completionSchema>;
  readonly tokenize: ReturnType<typeof tokenizeSchema>;
  readonly detokenize: ReturnType<typeof detokenizeSchema>;
}

/** What outlives a change of the configuration. */
export interface Shared {
  readonly metrics: Metrics;
  readonly queue: Queue;
  readonly leases: Leases;
  readonly telemetry: Telemetry;
  readonly rates: RateStore;
}

/** The gateway's parts that live as long as the app. */
export interface Services extends Shared {
  readonly deps: AppDeps;
  readonly schemas: Schemas;
  readonly constraints: ConstraintCompiler;
}

/** A Hono context of this app. */
export type AppContext = Context<AppEnv>;

/** Answers one route. */
export type Handler = (c: AppContext, services: Services) => Response | Promise<Response>;

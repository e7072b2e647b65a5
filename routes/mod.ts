/** What mod.ts at the root may import from the HTTP floor. */
export type { Admin } from "./admin.ts";
export { createApp, createShared } from "./app.ts";
export { ApiError } from "./errors.ts";
export type { Shared } from "./services.ts";
export {
  type Alias,
  type AppDeps,
  type Clock,
  defaultLimits,
  type KeyGrant,
  type KvPolicyInfo,
  type Limits,
  type LogEvent,
} from "./deps.ts";
export { type Bucket, memoryRateStore, type RateStore } from "./rates.ts";

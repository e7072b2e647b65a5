/** What mod.ts at the root may import from the HTTP floor. */
export { createApp } from "./app.ts";
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
export { fullPolicy } from "./kv.ts";
export { type Bucket, memoryRateStore, type RateStore } from "./rates.ts";

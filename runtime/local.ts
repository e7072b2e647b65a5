/** What only a machine of one's own has: files, command lines, downloads, Workers. For mod.ts. */
export { readArgs, usage } from "./config_args.ts";
export { HubError, type HubOptions, renderProgress } from "./hub/mod.ts";
export { type LoadedModel, loadModel } from "./load.ts";
export { loadTokenizer } from "./model_files.ts";
export { type ModelPath, resolveModelPath } from "./source.ts";
export { selectBackend } from "./backend/select.ts";
export type { ReadbackMode } from "./backend/webgpu/mod.ts";
export { createDeadline } from "./constraints/deadline.ts";
export { createCompileWorker } from "./constraints/worker_channel.ts";

/** Models that are computed elsewhere, over the OpenAI API. Uses `fetch` alone: runs on edge platforms. */
export { createUpstream, type Upstream } from "./model.ts";
export { createUpstreams, namedTokenizers, type UpstreamSources } from "./configure.ts";
export type { UpstreamEvent, UpstreamHost, UpstreamSpec } from "./types.ts";

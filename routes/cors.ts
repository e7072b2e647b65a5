/** Pages of other origins: an exact allow list, empty by default. */
import { ApiError } from "./errors.ts";
import { checkOrigin } from "./host.ts";

const exposed = [
  "X-Request-Id",
  "X-Decoding-Strategy",
  "X-Decoding-Source",
  "X-Decoding-Fallback",
  "X-KV-Policy",
  "X-Ignored-Params",
  "X-Served-By",
  "X-Attempts",
  "X-Fallbacks",
  ...["limit", "remaining", "reset"].flatMap((part) => [
    `x-ratelimit-${part}-requests`,
    `x-ratelimit-${part}-tokens`,
  ]),
  "openai-processing-ms",
  "Retry-After",
].join(", ");

const requestHeaders = [
  "Authorization",
  "Content-Type",
  "X-Api-Key",
  "X-Request-Id",
  "X-Request-Timeout-Ms",
  "X-Decoding-Strategy",
  "X-KV-Policy",
];

/**
 * Refuses requests with an effect that come from a page of a foreign origin. The page could not read
 * the answer, but it could make a gateway on the visitor's own machine work.
 */
export function refuseOrigin(request: Request, allowed: readonly string[]): ApiError | undefined {
  if (["GET", "HEAD", "OPTIONS"].includes(request.method)) return undefined;
  if (checkOrigin(request, allowed) !== "foreign") return undefined;
  return new ApiError(403, "origin_not_allowed", "Pages of this origin may not call the gateway");
}

/** What lets pages of an allowed origin read the answer. */
export function corsHeaders(
  request: Request,
  allowed: readonly string[],
): readonly (readonly [string, string])[] {
  if (checkOrigin(request, allowed) !== "allowed") return [];
  return [
    ["access-control-allow-origin", request.headers.get("origin")!],
    ["access-control-expose-headers", exposed],
    ["vary", "Origin"],
  ];
}

/** The answer to OPTIONS; never needs a key. */
export function preflight(
  request: Request,
  allow: string,
  allowed: readonly string[],
): Response {
  const headers = new Headers({ allow });
  if (checkOrigin(request, allowed) === "allowed") {
    const stainless = (request.headers.get("access-control-request-headers") ?? "").split(",")
      .map((name) => name.trim()).filter((name) => /^x-stainless-[a-z-]{1,40}$/.test(name));
    headers.set("access-control-allow-methods", allow);
    headers.set("access-control-allow-headers", [...requestHeaders, ...stainless].join(", "));
    headers.set("access-control-max-age", "600");
  }
  return new Response(null, { status: 204, headers });
}

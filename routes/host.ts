/**
 * Host and Origin, checked before anything is routed: the server builds the request's URL from the
 * Host header, so a crafted one could otherwise choose the route.
 */
import { ApiError } from "./errors.ts";

const name = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.?)(?::\d{1,5})?$/;
const ipv6 = /^\[[0-9A-Fa-f:.]+\](?::\d{1,5})?$/;

/**
 * The host of a request, lower case and without port.
 *
 * @returns undefined if the header is not `host[:port]` of at most 255 characters
 */
export function hostName(host: string): string | undefined {
  if (host.length > 255 || !(name.test(host) || ipv6.test(host))) return undefined;
  return host.replace(/:\d{1,5}$/, "").replace(/\.$/, "").toLowerCase();
}

/**
 * Checks the Host header, or the URL's host where the transport has none.
 *
 * @param allowed names the gateway answers to; undefined = all. On loopback this is what keeps pages
 * of other sites out that point their own name at 127.0.0.1.
 */
export function checkHost(
  request: Request,
  allowed: readonly string[] | undefined,
): ApiError | undefined {
  const host = hostName(request.headers.get("host") ?? new URL(request.url).host);
  if (host !== undefined && (!allowed || allowed.includes(host))) return undefined;
  return new ApiError(
    400,
    "invalid_host",
    host === undefined
      ? "The Host header is not a plain host name"
      : "The Host header names a host this gateway does not answer to",
  );
}

/** How a request stands to the page it comes from. */
export type OriginCheck = "none" | "same" | "allowed" | "foreign";

/** Whether the Origin header, if any, is our own or one of `allowed`. */
export function checkOrigin(request: Request, allowed: readonly string[]): OriginCheck {
  const origin = request.headers.get("origin");
  if (origin === null) return "none";
  if (origin !== "null" && allowed.includes(origin)) return "allowed";
  const host = request.headers.get("host") ?? new URL(request.url).host;
  return origin === `http://${host}` || origin === `https://${host}` ? "same" : "foreign";
}

/** Refuses a request that we sent ourselves: an upstream leads back here. */
export function refuseLoop(request: Request, via: string | undefined): ApiError | undefined {
  const passed = request.headers.get("via")?.split(",").map((hop) => hop.trim()) ?? [];
  if (via === undefined || !passed.includes(via)) return undefined;
  return new ApiError(508, "loop_detected", "The request came back to the gateway that sent it", {
    headers: { "x-should-retry": "false" },
  });
}

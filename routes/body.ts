/** Reads request bodies with a size limit and deadlines: the server itself has neither. */
import { ApiError, clientClosed } from "./errors.ts";
import type { Clock, Limits } from "./deps.ts";
import { parseJsonObject } from "./json.ts";

/**
 * The JSON object in a request's body.
 *
 * @throws {ApiError} 408, 413, 415 and everything {@link parseJsonObject} throws
 */
export async function readJsonBody(
  request: Request,
  limits: Limits,
  clock: Clock,
): Promise<Record<string, unknown>> {
  requireJson(request.headers);
  const bytes = await readBody(request, limits, clock);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ApiError(400, "invalid_json", "The request body is not valid UTF-8");
  }
  return parseJsonObject(text, limits.jsonDepth);
}

/** Clients forget the content type, so a missing one is fine; a wrong one is not. */
function requireJson(headers: Headers): void {
  const type = headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (type !== "" && type !== "application/json" && !/^[\w.+-]+\/[\w.+-]+\+json$/.test(type)) {
    throw new ApiError(415, "unsupported_media_type", "The request body must be application/json");
  }
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (encoding !== "identity" && encoding !== "") {
    throw new ApiError(415, "unsupported_media_type", "The request body must not be compressed");
  }
}

/**
 * All bytes of a body. What arrives is counted, whatever `Content-Length` says.
 *
 * @throws {ApiError} 413 above `limits.bodyBytes`, 408 when it comes too slowly
 */
export async function readBody(
  request: Request,
  limits: Limits,
  clock: Clock,
): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(request.headers.get("content-length") ?? "0") > limits.bodyBytes) {
    throw tooLarge(limits);
  }
  if (!request.body) return new Uint8Array(0);
  const reader = request.body.getReader();
  const late = Promise.withResolvers<never>();
  late.promise.catch(() => {}); // it may reject when nobody waits any more
  const expire = () => late.reject(requestTimeout());
  const cancelTotal = clock.after(limits.bodyTotalMs, expire);
  let cancelIdle = clock.after(limits.bodyIdleMs, expire);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  try {
    while (true) {
      const { done, value } = await Promise.race([reader.read().catch(gone), late.promise]);
      if (done) return join(parts, length);
      length += value.byteLength;
      if (length > limits.bodyBytes) throw tooLarge(limits);
      parts.push(value);
      cancelIdle();
      cancelIdle = clock.after(limits.bodyIdleMs, expire);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error;
  } finally {
    cancelTotal();
    cancelIdle();
  }
}

/** A body that breaks off: the client went away. */
function gone(): never {
  throw clientClosed();
}

function join(parts: readonly Uint8Array<ArrayBuffer>[], length: number): Uint8Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0]!;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

function tooLarge(limits: Limits): ApiError {
  return new ApiError(
    413,
    "request_too_large",
    `The request body is larger than ${limits.bodyBytes} bytes`,
  );
}

function requestTimeout(): ApiError {
  return new ApiError(408, "request_timeout", "The request body did not arrive in time");
}

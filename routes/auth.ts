/** API keys: compared as digests of fixed length, all of them, in constant time. */
import { ApiError } from "./errors.ts";
import type { Caller } from "./state.ts";

const maxKeyLength = 512;

/** The caller where no keys are configured. */
export const anybody: Caller = { keyDigest: "" };

/**
 * The caller behind a request's `Authorization: Bearer` or `X-Api-Key` header.
 *
 * @param keys SHA-256 digests of the accepted keys; none = everybody may call
 * @throws {ApiError} 401 `invalid_api_key`
 */
export async function authenticate(
  headers: Headers,
  keys: readonly Uint8Array[],
): Promise<Caller> {
  if (keys.length === 0) return anybody;
  const key = givenKey(headers);
  if (key === undefined) throw refused("Missing API key: send Authorization: Bearer KEY");
  const bytes = new TextEncoder().encode(key.slice(0, maxKeyLength));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  if (!isKnown(digest, keys) || key.length > maxKeyLength) throw refused("Wrong API key");
  return { keyDigest: digest.toHex() };
}

function givenKey(headers: Headers): string | undefined {
  const authorization = headers.get("authorization") ?? "";
  const bearer = /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1];
  const key = bearer ?? headers.get("x-api-key") ?? "";
  return key === "" ? undefined : key;
}

/** Looks at every byte of every key, whatever it finds. */
function isKnown(digest: Uint8Array, keys: readonly Uint8Array[]): boolean {
  let known = 0;
  for (const key of keys) {
    let difference = key.length ^ digest.length;
    for (let i = 0; i < digest.length; i++) difference |= (key[i] ?? 0) ^ digest[i]!;
    known |= Number(difference === 0);
  }
  return known === 1;
}

function refused(message: string): ApiError {
  return new ApiError(401, "invalid_api_key", message, {
    headers: { "www-authenticate": "Bearer" },
  });
}

/** Which requests may share cached prefixes: those with the same key and the same salt. */
export async function cacheSalt(caller: Caller, salt: string | undefined): Promise<string> {
  if (caller.keyDigest === "" && salt === undefined) return "";
  const text = JSON.stringify([caller.keyDigest, salt ?? null]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex();
}

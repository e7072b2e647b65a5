/** API keys: compared as digests of fixed length, all of them, in constant time. */
import type { Catalog } from "../runtime/mod.ts";
import type { AppDeps, KeyGrant } from "./deps.ts";
import { ApiError } from "./errors.ts";
import type { Caller } from "./state.ts";

const maxKeyLength = 512;

/** The caller where no keys are configured. */
export const anybody: Caller = { keyDigest: "" };

/**
 * The caller behind a request's `Authorization: Bearer` or `X-Api-Key` header.
 *
 * @param keys the accepted keys; none = everybody may call
 * @throws {ApiError} 401 `invalid_api_key`
 */
export async function authenticate(
  headers: Headers,
  keys: readonly KeyGrant[],
): Promise<Caller> {
  if (keys.length === 0) return anybody;
  const key = givenKey(headers);
  if (key === undefined) throw refused("Missing API key: send Authorization: Bearer KEY");
  const bytes = new TextEncoder().encode(key.slice(0, maxKeyLength));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const grant = findGrant(digest, keys);
  if (!grant || key.length > maxKeyLength) throw refused("Wrong API key");
  return { keyDigest: digest.toHex(), grant };
}

/** All accepted keys: those that may do everything, then those with limits of their own. */
export function acceptedKeys({ apiKeys, keys = [] }: Pick<AppDeps, "apiKeys" | "keys">) {
  return [...apiKeys.map((digest): KeyGrant => ({ digest })), ...keys];
}

/** @throws {ApiError} 403 `model_not_allowed` if the key may not use the model of this public name */
export function requireModel({ grant }: Caller, name: string, param: string): void {
  if (!grant?.models || grant.models.includes(name)) return;
  throw new ApiError(
    403,
    "model_not_allowed",
    `This key may not use the model ${JSON.stringify(name)}`,
    { param },
  );
}

/** The models a key may know of. */
export function visibleModels({ grant }: Caller, catalog: Catalog): Catalog {
  const allowed = grant?.models;
  if (!allowed) return catalog;
  return { ...catalog, list: () => catalog.list().filter(({ id }) => allowed.includes(id)) };
}

/** @throws {ApiError} 403 `strategy_not_allowed` if the key may not use the strategy */
export function requireAllowedStrategy({ grant }: Caller, name: string, param: string): void {
  if (!grant?.strategies || grant.strategies.includes(name)) return;
  throw new ApiError(
    403,
    "strategy_not_allowed",
    `This key may not use the strategy ${JSON.stringify(name)}`,
    { param },
  );
}

function givenKey(headers: Headers): string | undefined {
  const authorization = headers.get("authorization") ?? "";
  const bearer = /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1];
  const key = bearer ?? headers.get("x-api-key") ?? "";
  return key === "" ? undefined : key;
}

/** Looks at every byte of every key, whatever it finds. */
function findGrant(digest: Uint8Array, keys: readonly KeyGrant[]): KeyGrant | undefined {
  let found: KeyGrant | undefined;
  for (const grant of keys) {
    const key = grant.digest;
    let difference = key.length ^ digest.length;
    for (let i = 0; i < digest.length; i++) difference |= (key[i] ?? 0) ^ digest[i]!;
    if (difference === 0) found = grant;
  }
  return found;
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

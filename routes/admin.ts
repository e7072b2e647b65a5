/** `GET /admin/models`, `POST /admin/models/load` and `/unload`: off unless an admin key is set. */
import * as z from "zod";
import { readJsonBody } from "./body.ts";
import { ApiError, invalidValue } from "./errors.ts";
import { validate } from "./schema/validate.ts";
import { checkFields } from "./schema/support.ts";
import { notFound } from "./models.ts";
import type { AppContext, Services } from "./services.ts";

/** What administration may do, and who may. */
export interface Admin {
  /** SHA-256 of the admin key. */
  readonly digest: Uint8Array;
  /** Names from the configuration, and which of them are loaded under which id. */
  models(): readonly { readonly name: string; readonly id: string | undefined }[];
  /** @returns ids of models that were unloaded to make room */
  load(name: string): Promise<readonly string[]>;
  /** @returns false if it is not loaded */
  unload(name: string): Promise<boolean>;
}

const modelBody = z.object({ model: z.string().min(1).max(4096) });

/** The models of the configuration, loaded or not. */
export function adminModels(_c: AppContext, { deps }: Services): Response {
  const data = requireAdmin(deps.admin).models().map(({ name, id }) => ({
    model: id ?? name,
    loaded: id !== undefined,
  }));
  return Response.json({ object: "list", data });
}

/** Loads a model the configuration names. */
export async function loadOne(c: AppContext, services: Services): Promise<Response> {
  const admin = requireAdmin(services.deps.admin);
  const name = await namedModel(c, services, admin);
  const unloaded = await admin.load(name);
  const id = admin.models().find((model) => model.name === name)?.id ?? name;
  return Response.json({ model: id, status: "loaded", unloaded });
}

/** Unloads a model when what it runs has finished. */
export async function unloadOne(c: AppContext, services: Services): Promise<Response> {
  const admin = requireAdmin(services.deps.admin);
  const name = await namedModel(c, services, admin);
  if (!await admin.unload(name)) throw invalidValue("model", "This model is not loaded");
  return Response.json({ model: name, status: "unloaded" });
}

/** @throws {ApiError} 404 if the configuration does not name it: no path ever comes from a request */
async function namedModel(
  c: AppContext,
  { deps }: Services,
  admin: Admin,
): Promise<string> {
  const raw = await readJsonBody(c.req.raw, deps.limits, deps.clock);
  checkFields(raw, modelBody.shape, true);
  const { model } = validate(modelBody, raw);
  const known = admin.models().find(({ name, id }) => name === model || id === model);
  if (known) return known.name;
  throw new ApiError(404, "model_not_found", "The configuration names no such model", {
    param: "model",
  });
}

/** Where there is no admin key, there is no administration. */
function requireAdmin(admin: Admin | undefined): Admin {
  if (admin) return admin;
  throw notFound();
}

/** Whether an adapter was trained for the model it is loaded with. */
import { FormatError } from "../../errors.ts";
import type { WeightSource } from "../../formats/weights.ts";
import { createSha256 } from "../../sha256.ts";
import type { ModelConfig } from "../config.ts";
import { namesOf } from "../weight_names.ts";

/**
 * Fingerprint of a model: SHA-256 of the values of its final norm and of its layers' input norms, as
 * little-endian f32. Cheap for any size and the same for every file format.
 *
 * @throws {FormatError} if a norm is missing
 */
export function normsDigest(
  config: Pick<ModelConfig, "layers">,
  weights: Pick<WeightSource, "has" | "f32">,
): string {
  const nameOf = namesOf(weights);
  const digest = createSha256();
  const add = (name: string) => {
    const values = weights.f32(name);
    const bytes = new DataView(new ArrayBuffer(4 * values.length));
    values.forEach((value, i) => bytes.setFloat32(4 * i, value, true));
    digest.update(new Uint8Array(bytes.buffer));
  };
  add(nameOf("finalNorm"));
  for (let layer = 0; layer < config.layers; layer++) add(nameOf("attentionNorm", layer));
  return digest.hex();
}

/**
 * Adapters say in `base_norms` which model they were trained for; those that say nothing (published
 * score heads) are checked by shape alone.
 *
 * @throws {FormatError} if it is another one
 */
export function requireBase(metadata: ReadonlyMap<string, string>, digest: string): void {
  const wanted = metadata.get("base_norms");
  if (wanted === undefined || wanted === digest) return;
  throw new FormatError("it was trained for a model with other weights", { source: "KV adapter" });
}

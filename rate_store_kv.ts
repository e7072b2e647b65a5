/** Budgets in Deno KV: an SQLite file on one machine, shared by all instances where deployed. */
import type { Bucket, RateStore } from "./routes/mod.ts";

/** Buckets that nobody touched for so long are full, and forgotten. */
const expireMs = 120_000;
/** Writers that get in between before an update gives up. */
const attempts = 50;

/** A store over `kv`, which stays the caller's. @throws {Error} if others write without pause */
export function kvRateStore(kv: Deno.Kv): RateStore {
  return {
    async update(name, change) {
      const key = ["decant", "rate", name];
      for (let attempt = 0; attempt < attempts; attempt++) {
        const entry = await kv.get<Bucket>(key);
        const { bucket, result } = change(entry.value ?? undefined);
        const done = await kv.atomic().check(entry).set(key, bucket, { expireIn: expireMs })
          .commit();
        if (done.ok) return result;
      }
      throw new Error(`The rate store is written to too often: ${attempts} attempts failed`);
    },
  };
}

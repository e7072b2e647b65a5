import { fullKvSupport } from "../../../../runtime/backend/backend.ts";
import { createWasmBackend, WasmKvPool } from "../../../../runtime/backend/wasm/mod.ts";
import { testBackend } from "../../../conformance/backend.ts";

testBackend("WASM", createWasmBackend, {
  /**
   * f32 sums of four lanes or in fours: terms / 4 additions and two levels of pairs, plus the
   * roundings of products, exponentials (4), divisions and the store.
   */
  roundings: (terms) => terms / 4 + 12,
  kv: fullKvSupport,
  readSignal: (pool, signal, layer, kvHead, slots) => {
    if (!(pool instanceof WasmKvPool)) throw new TypeError("not a pool of this backend");
    return pool.readSignal(signal, layer, kvHead, slots);
  },
  async createWithThreads(threads) {
    const backend = createWasmBackend({ threads, sharedWork: 0 });
    while (backend.threads < threads) await new Promise((resolve) => setTimeout(resolve, 1));
    return backend;
  },
});

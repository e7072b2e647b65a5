import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { cpuPool } from "../../../../runtime/backend/cpu/kv_pool.ts";
import { testBackend } from "../../../conformance/backend.ts";

testBackend("CPU", createCpuBackend, {
  readSignal: (pool, signal, layer, kvHead, slots) =>
    cpuPool("test", pool).readSignal(signal, layer, kvHead, slots),
});

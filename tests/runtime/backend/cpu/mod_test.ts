import { fullKvSupport } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { cpuPool } from "../../../../runtime/backend/cpu/kv_pool.ts";
import { testBackend } from "../../../conformance/backend.ts";

testBackend("CPU", createCpuBackend, {
  kv: fullKvSupport,
  readSignal: (pool, signal, layer, kvHead, slots) =>
    cpuPool("test", pool).readSignal(signal, layer, kvHead, slots),
});

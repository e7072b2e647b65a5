/** How many threads a model takes by itself. */

/** More threads than this share one memory bus without gain. */
const MOST = 4;

/**
 * The smaller of the machine's physical cores and 4. Two threads of one core share its multipliers,
 * so only cores count; where the system does not say which those are, what it calls processors.
 *
 * @param processors as `navigator.hardwareConcurrency` says: those this process may use
 * @param cpuInfo Linux's /proc/cpuinfo
 */
export function defaultThreads(processors: number, cpuInfo: string | undefined): number {
  const cores = cpuInfo === undefined ? 0 : physicalCores(cpuInfo);
  return Math.max(1, Math.min(MOST, processors, cores > 0 ? cores : processors));
}

/** Distinct pairs of package and core; 0 where there are none in the text. */
function physicalCores(cpuInfo: string): number {
  const cores = new Set<string>();
  for (const block of cpuInfo.split(/\n\s*\n/)) {
    const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(\\d+)`, "m").exec(block)?.[1];
    const core = field("core id");
    if (core !== undefined) cores.add(`${field("physical id") ?? 0} ${core}`);
  }
  return cores.size;
}

/** {@link defaultThreads} of this machine. */
export function threadsOfMachine(): number {
  let cpuInfo: string | undefined;
  try {
    cpuInfo = Deno.readTextFileSync("/proc/cpuinfo");
  } catch {
    // Not Linux, or no permission to look.
  }
  return defaultThreads(navigator.hardwareConcurrency, cpuInfo);
}

/** Every strategy there is, one line each. */
export { awrs } from "./awrs.ts";
export { beam } from "./beam.ts";
export { bestOfN } from "./best_of_n.ts";
export { cascade } from "./cascade.ts";
export { cautiousNtp } from "./cautious_ntp.ts";
export { diverseBeam } from "./diverse_beam.ts";
export { greedy } from "./greedy.ts";
export { sample } from "./sample.ts";
export { selfConsistency } from "./self_consistency.ts";
export { speculative } from "./speculative.ts";
export { speculativeCascade } from "./speculative_cascade.ts";
export { speculativeEnsemble } from "./speculative_ensemble.ts";
export { stochasticBeam } from "./stochastic_beam.ts";

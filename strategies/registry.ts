/** Every strategy there is, one line each. */
export { beam } from "./beam.ts";
export { bestOfN } from "./best_of_n.ts";
export { greedy } from "./greedy.ts";
export { sample } from "./sample.ts";
export { selfConsistency } from "./self_consistency.ts";

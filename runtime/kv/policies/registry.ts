/** One line per policy. */
export { full } from "./full.ts";

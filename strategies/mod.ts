/** What routes may import from the strategies floor. */
export * from "./strategy.ts";
export * from "./run.ts";

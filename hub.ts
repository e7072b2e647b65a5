/** Where models are downloaded from and to: the environment and the configuration say so. */
import type { HubOptions } from "./runtime/local.ts";
import { type Config, ConfigError } from "./runtime/mod.ts";

/** Endpoint, token and cache of the hub. @throws {ConfigError} where there is no folder for the cache */
export function hubOptions(
  config: Config,
  env: (name: string) => string | undefined,
  onProgress: HubOptions["onProgress"],
): HubOptions {
  const token = env("HF_TOKEN");
  return {
    endpoint: env("HF_ENDPOINT") ?? "https://huggingface.co",
    cacheFolder: config.cache_dir ?? defaultCacheDir(env),
    fetch,
    clock: hubClock,
    retries: 5, // half a minute: a start should not hang for long
    ...(token === undefined ? {} : { token }),
    ...(onProgress === undefined ? {} : { onProgress }),
  };
}

function defaultCacheDir(env: (name: string) => string | undefined): string {
  const home = env("HOME") ?? env("USERPROFILE");
  if (home === undefined) {
    throw new ConfigError("cache_dir", 'Set "cache_dir": there is no home folder to download to');
  }
  return `${home}/.cache/decant/hub`;
}

const hubClock: HubOptions["clock"] = {
  now: () => performance.now(),
  wait: (ms, signal) =>
    new Promise((resolve, reject) => {
      const cancel = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", cancel);
        resolve();
      }, ms);
      if (signal.aborted) cancel();
      else signal.addEventListener("abort", cancel, { once: true });
    }),
};

import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError, parseConfig } from "../../runtime/config.ts";
import { readArgs, usage } from "../../runtime/config_args.ts";
import { editDistance, nearest } from "../../runtime/nearest.ts";

Deno.test("parseConfig() completes an empty configuration", () => {
  const config = parseConfig({}, "config file");
  assertEquals(config.host, "127.0.0.1");
  assertEquals(config.port, 8000);
  assertEquals(config.backend, "auto");
  assertEquals(config.limits.body_bytes, 4 * 1024 * 1024);
});

Deno.test("parseConfig() names an unknown key and the nearest known one", () => {
  const error = assertThrows(() => parseConfig({ modles: ["x"] }, "config file"), ConfigError);
  assertEquals(error.key, "modles");
  assertStringIncludes(error.message, 'nearest known key is "models"');
  const nested = assertThrows(
    () => parseConfig({ limits: { chioces: 3 } }, "config file"),
    ConfigError,
  );
  assertEquals(nested.key, "limits.chioces");
  assertStringIncludes(nested.message, '"choices"');
});

Deno.test("parseConfig() names the key of a bad value", () => {
  for (
    const [key, value] of [
      ["port", 70_000],
      ["port", "8000"],
      ["backend", "cuda"],
      ["weights", "q5"],
      ["models", []],
      ["context", 1.5],
      ["api_key_env", "no spaces"],
    ] as const
  ) {
    const error = assertThrows(() => parseConfig({ [key]: value }, "config file"), ConfigError);
    assertEquals(error.key, key);
    assertStringIncludes(error.message, `"${key}"`);
  }
});

Deno.test("readArgs() turns every flag into its config field", () => {
  const args = readArgs([
    ...["--host", "::1", "--port=9000", "--model", "a", "--model", "b", "--backend", "cpu"],
    ...["--config", "decant.json", "--api-key-env", "DECANT_KEY", "--context", "512", "--insecure"],
    ...["--weights", "q8"],
  ], {});
  assertEquals(args.configFile, "decant.json");
  assertEquals(args.overrides, {
    host: "::1",
    port: 9000,
    models: ["a", "b"],
    backend: "cpu",
    api_key_env: "DECANT_KEY",
    context: 512,
    insecure: true,
    weights: "q8",
  });
});

Deno.test("readArgs() takes the number of threads from the flag, then from the environment", () => {
  assertEquals(readArgs([], { threads: "3" }).overrides, { threads: 3 });
  assertEquals(readArgs(["--threads", "2"], { threads: "3" }).overrides, { threads: 2 });
  assertThrows(() => readArgs(["--threads", "all"], {}), ConfigError, "threads");
  assertThrows(() => parseConfig({ threads: 0 }, "config file"), ConfigError, "threads");
});

Deno.test("readArgs() takes HOST and PORT from the environment, flags first", () => {
  assertEquals(readArgs([], { host: "0.0.0.0", port: "81" }).overrides, {
    host: "0.0.0.0",
    port: 81,
  });
  assertEquals(readArgs(["--port", "82"], { port: "81" }).overrides, { port: 82 });
});

Deno.test("readArgs() refuses unknown flags, positionals and bad numbers by name", () => {
  const unknown = assertThrows(() => readArgs(["--prot", "1"], {}), ConfigError);
  assertStringIncludes(unknown.message, '"--prot"');
  assertStringIncludes(unknown.message, '"--port"');
  assertThrows(() => readArgs(["serve"], {}), ConfigError, "serve");
  assertThrows(() => readArgs(["--port", "80a"], {}), ConfigError, '"80a"');
  assertThrows(() => readArgs(["--port"], {}), ConfigError, "--port");
  assertThrows(() => readArgs([], { port: "-1" }), ConfigError, '"port"');
});

Deno.test("usage() lists every flag", () => {
  for (const flag of ["host", "port", "model", "backend", "weights", "config", "context"]) {
    assertMatch(usage(), new RegExp(`--${flag} `));
  }
});

Deno.test("nearest() finds the smallest edit distance", () => {
  assertEquals(editDistance("kitten", "sitting"), 3);
  assertEquals(editDistance("", "abc"), 3);
  assertEquals(nearest("beckend", ["host", "backend", "port"]), "backend");
  assertEquals(nearest("x", []), undefined);
});

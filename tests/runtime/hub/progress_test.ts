import { assert, assertEquals } from "@std/assert";
import { type Progress, renderProgress } from "../../../runtime/hub/mod.ts";
import { createMeter, formatBytes, formatSeconds } from "../../../runtime/hub/progress.ts";

const half: Progress = {
  file: "model.safetensors",
  received: 1_200_000_000,
  total: 2_400_000_000,
  bytesPerSecond: 12_500_000,
  secondsLeft: 96,
};

Deno.test("renderProgress() shows bar, share, bytes, rate and time left", () => {
  assertEquals(
    renderProgress(half),
    "model.safetensors  [#############-------------]   50 %  1.2 GB of 2.4 GB  12.5 MB/s  1 min 36 s left",
  );
  const started = { ...half, received: 0, bytesPerSecond: undefined, secondsLeft: undefined };
  assertEquals(
    renderProgress(started, 80),
    "model.safetensors  [------------------------------]    0 %  0 B of 2.4 GB",
  );
  const done = { ...half, received: half.total, secondsLeft: 0 };
  assertEquals(
    renderProgress(done, 80),
    "model.safetensors  [#######################]  100 %  2.4 GB of 2.4 GB  12.5 MB/s",
  );
});

Deno.test("renderProgress() keeps to the width, without bar when there is no room", () => {
  for (let width = 0; width < 120; width++) {
    assert(renderProgress(half, width).length <= width, `width ${width}`);
  }
  assertEquals(
    renderProgress(half, 60),
    "model.safetensors  50 %  1.2 GB of 2.4 GB  12.5 MB/s  1 min ",
  );
});

Deno.test("renderProgress() of an empty file is complete", () => {
  const empty = {
    file: "x",
    received: 0,
    total: 0,
    bytesPerSecond: undefined,
    secondsLeft: undefined,
  };
  assert(renderProgress(empty).includes("100 %"));
});

Deno.test("formatBytes() uses decimal units and never shows 1000 of one", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [999, "999 B"],
    [999.6, "1.0 kB"],
    [1000, "1.0 kB"],
    [999_949, "999.9 kB"],
    [999_950, "1.0 MB"],
    [1.5e9, "1.5 GB"],
    [2e12, "2.0 TB"],
    [5e15, "5000.0 TB"],
  ];
  for (const [bytes, expected] of cases) assertEquals(formatBytes(bytes), expected);
});

Deno.test("formatSeconds() gives the two largest units, rounded up", () => {
  const cases: [number, string][] = [
    [0, "0 s"],
    [0.2, "1 s"],
    [59, "59 s"],
    [59.5, "1 min 00 s"],
    [224, "3 min 44 s"],
    [3600, "1 h 00 min"],
    [7500, "2 h 05 min"],
  ];
  for (const [seconds, expected] of cases) assertEquals(formatSeconds(seconds), expected);
});

Deno.test("createMeter() measures over the last seconds and reports at most every 100 ms", () => {
  let now = 0;
  const reports: Progress[] = [];
  const meter = createMeter({ name: "f", total: 10_000 }, () => now, (r) => reports.push(r));
  meter.update(1000); // from an earlier run: no rate yet
  assertEquals(reports, [
    { file: "f", received: 1000, total: 10_000, bytesPerSecond: undefined, secondsLeft: undefined },
  ]);
  now = 50;
  meter.update(1100);
  assertEquals(reports.length, 1);
  now = 1000;
  meter.update(2000);
  assertEquals([reports.at(-1)?.bytesPerSecond, reports.at(-1)?.secondsLeft], [1000, 8]);
  for (now = 2000; now <= 20_000; now += 1000) meter.update(2000); // stands still
  assertEquals([reports.at(-1)?.bytesPerSecond, reports.at(-1)?.secondsLeft], [0, undefined]);
  now += 10; // the end is reported at once
  meter.update(10_000);
  assertEquals([reports.at(-1)?.received, reports.at(-1)?.secondsLeft], [10_000, 0]);
});

Deno.test("createMeter() forgets the rate when a download starts over", () => {
  let now = 0;
  const reports: Progress[] = [];
  const meter = createMeter({ name: "f", total: 10_000 }, () => now, (r) => reports.push(r));
  for (const received of [0, 5000, 0, 100]) {
    meter.update(received);
    now += 1000;
  }
  assertEquals(reports.map((r) => r.bytesPerSecond), [undefined, 5000, undefined, 100]);
});

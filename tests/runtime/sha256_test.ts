import { createHash } from "node:crypto";
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { createSha256 } from "../../runtime/sha256.ts";

const expected = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

Deno.test("createSha256() equals the platform's digest at every length around a block", () => {
  for (let length = 0; length <= 200; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 255);
    assertEquals(createSha256().update(bytes).hex(), expected(bytes), String(length));
  }
});

Deno.test("createSha256() does not depend on how its input is cut", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 150 })), (parts) => {
    const digest = createSha256();
    for (const part of parts) digest.update(part);
    assertEquals(digest.hex(), expected(Uint8Array.from(parts.flatMap((part) => [...part]))));
  }));
});

Deno.test("createSha256() takes text as UTF-8", () => {
  const text = "é日🐕 \ud800";
  assertEquals(
    createSha256().update(text).hex(),
    expected(new TextEncoder().encode(text)),
  );
});

import { assertEquals } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import { incompleteSuffix, textOf } from "../../strategies/_utf8.ts";

Deno.test("incompleteSuffix() counts the bytes of a character that is not whole", () => {
  for (const character of ["é", "€", "😀", "\u{10ffff}", "퟿"]) {
    const bytes = new TextEncoder().encode(character);
    for (let length = 1; length < bytes.length; length++) {
      assertEquals(incompleteSuffix([0x61, ...bytes.slice(0, length)]), length, character);
    }
    assertEquals(incompleteSuffix(bytes), 0);
  }
});

Deno.test("cutting any bytes before an incomplete suffix never changes their text", () => {
  const rng = createRng(seedFrom(4));
  // Bytes that begin, continue and break characters.
  const alphabet = [0x61, 0x80, 0x9f, 0xa0, 0xbf, 0xc1, 0xc3, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0xf5];
  let held = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = Array.from({ length: 1 + Math.floor(rng.next() * 7) }, () => {
      return alphabet[Math.floor(rng.next() * alphabet.length)]!;
    });
    const whole = textOf(bytes);
    for (let end = 0; end <= bytes.length; end++) {
      const suffix = incompleteSuffix(bytes, end);
      if (suffix > 0) held++;
      const cut = end - suffix;
      assertEquals(textOf(bytes.slice(0, cut)) + textOf(bytes.slice(cut)), whole);
    }
    // Nothing is held that a decoder would have replaced already.
    const streaming = new TextDecoder("utf-8", { ignoreBOM: true });
    const shown = streaming.decode(Uint8Array.from(bytes), { stream: true });
    assertEquals(textOf(bytes.slice(0, bytes.length - incompleteSuffix(bytes))), shown);
  }
  assertEquals(held > 1000, true);
});

Deno.test("textOf() keeps a byte-order mark", () => {
  assertEquals(textOf([0xef, 0xbb, 0xbf, 0x61]), "\ufeffa");
});

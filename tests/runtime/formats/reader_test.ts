import { assertEquals, assertThrows } from "@std/assert";
import { FormatError, NotFoundError } from "../../../runtime/errors.ts";
import { baseName, bytesSource, Cursor, fileSource } from "../../../runtime/formats/reader.ts";
import { absurdSizes } from "./_hardening.ts";
import { ByteWriter } from "./_writers.ts";

const outside: readonly (readonly [offset: number, length: number])[] = [
  [0, 5],
  [4, 1],
  [5, 0],
  [-1, 1],
  [0, -1],
  [0.5, 1],
  [0, 0.5],
  [NaN, 1],
  [0, NaN],
  [2 ** 53, 1],
  [1, 2 ** 53 - 1],
  [0, Infinity],
];

Deno.test("ByteSource.read() in memory and of a file gives copies and refuses what is outside", async () => {
  const path = await Deno.makeTempFile();
  const bytes = Uint8Array.of(1, 2, 3, 4);
  await Deno.writeFile(path, bytes);
  try {
    for (const make of [() => bytesSource(bytes, "x"), () => fileSource(path)]) {
      using source = make();
      assertEquals(source.size, 4);
      assertEquals(source.read(1, 2), Uint8Array.of(2, 3));
      assertEquals(source.read(4, 0), new Uint8Array(0));
      source.read(0, 4).fill(9);
      assertEquals(source.read(0, 4), bytes);
      for (const [offset, length] of outside) {
        assertThrows(() => source.read(offset, length), FormatError, "the file has 4");
      }
      const part = new Uint8Array(2);
      source.readInto(2, part);
      assertEquals(part, Uint8Array.of(3, 4));
      for (const offset of [3, -1, 0.5, NaN, 2 ** 53]) {
        assertThrows(() => source.readInto(offset, part), FormatError, "the file has 4");
      }
    }
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("fileSource() names the file without its folder", () => {
  const error = assertThrows(() => fileSource("/secret/place/model.gguf"), NotFoundError);
  assertEquals(error.message, 'Unknown file "model.gguf"');
});

Deno.test("baseName() is the last part of a path", () => {
  const paths = ["a", "/x/a", "x\\a", "x/a/", "./a"];
  assertEquals(paths.map(baseName), ["a", "a", "a", "a", "a"]);
});

Deno.test("Cursor reads every kind of number, little endian, across its window", () => {
  // Fields start around 64 KiB, where a window ends.
  for (const lead of [0, 65_530, 65_535, 65_536, 131_069]) {
    const out = new ByteWriter().raw(new Uint8Array(lead));
    out.u8(0xfe).u8(0xfe).u32(0x80000001).u32(0x80000001).u64(2n ** 64n - 1n).u64(2n ** 64n - 1n);
    out.raw([0xff, 0xfe]).raw([0xff, 0xfe]).raw(new Uint8Array(Float32Array.of(-1.5).buffer));
    out.raw(new Uint8Array(Float64Array.of(Math.PI).buffer)).text("é").u64(12);
    const cursor = new Cursor(bytesSource(out.bytes(), "x"), { start: lead });
    assertEquals([cursor.u8("f"), cursor.i8("f")], [0xfe, -2]);
    assertEquals([cursor.u32("f"), cursor.i32("f")], [0x80000001, -0x7fffffff]);
    assertEquals([cursor.u64("f"), cursor.i64("f")], [2n ** 64n - 1n, -1n]);
    assertEquals([cursor.u16("f"), cursor.i16("f")], [0xfeff, -257]);
    assertEquals([cursor.f32("f"), cursor.f64("f")], [-1.5, Math.PI]);
    assertEquals([cursor.utf8(2, "f"), cursor.size("f")], ["é", 12]);
    assertEquals([cursor.remaining, cursor.offset], [0, out.length]);
  }
});

Deno.test("Cursor names the field and its offset when bytes are missing", () => {
  const cursor = new Cursor(bytesSource(new Uint8Array(6), "x.bin"));
  cursor.u32("first");
  const error = assertThrows(() => cursor.u32("second"), FormatError);
  assertEquals(error.message, "Cannot read x.bin at offset 4: second needs 4 bytes, 2 are left");
  assertEquals(error.offset, 4);
  assertThrows(() => cursor.bytes(3, "rest"), FormatError, "rest needs 3 bytes");
  assertThrows(() => cursor.utf8(3, "text"), FormatError, "text needs 3 bytes");
});

Deno.test("Cursor stays in its range", () => {
  const source = bytesSource(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), "x");
  const cursor = new Cursor(source, { start: 2, end: 4 });
  assertEquals([cursor.u8("a"), cursor.u8("b")], [3, 4]);
  assertThrows(() => cursor.u8("c"), FormatError, "c needs 1 bytes, 0 are left");
});

Deno.test("Cursor.size() and count() refuse what cannot be", () => {
  for (const value of absurdSizes) {
    const cursor = () => new Cursor(bytesSource(new ByteWriter().u64(value).u64(0).bytes(), "x"));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      assertThrows(() => cursor().size("n"), FormatError, `n is ${value}, more than the limit`);
    } else {
      assertEquals(cursor().size("n"), Number(value));
    }
    for (const itemBytes of [1, 8, 2 ** 40]) {
      assertThrows(() => cursor().count("n", itemBytes), FormatError, `n is ${value}`);
    }
  }
  const cursor = new Cursor(bytesSource(new ByteWriter().u64(2).u64(0).bytes(), "x"));
  assertEquals(cursor.count("n", 4), 2);
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { parseHubReference } from "../../../runtime/hub/mod.ts";
import { isSafePath } from "../../../runtime/hub/reference.ts";

Deno.test("parseHubReference() reads repository, revision and file", () => {
  const cases: [string, ReturnType<typeof parseHubReference>][] = [
    ["hf:org/repo", { repo: "org/repo", revision: "main" }],
    ["hf:Qwen/Qwen2.5-0.5B", { repo: "Qwen/Qwen2.5-0.5B", revision: "main" }],
    ["hf:o/r@v1.0", { repo: "o/r", revision: "v1.0" }],
    ["hf:o/r@refs%2Fpr%2f7", { repo: "o/r", revision: "refs/pr/7" }],
    ["hf:o/r/m.gguf", { repo: "o/r", revision: "main", file: "m.gguf" }],
    ["hf:o/r/Q4/m.GGUF", { repo: "o/r", revision: "main", file: "Q4/m.GGUF" }],
    ["hf:o/r@abc/m.gguf", { repo: "o/r", revision: "abc", file: "m.gguf" }],
  ];
  for (const [text, expected] of cases) assertEquals(parseHubReference(text), expected);
});

Deno.test("parseHubReference() refuses what cannot be, with what is wrong", () => {
  const cases: [string, string][] = [
    ["", "does not start with hf:"],
    ["org/repo", "does not start with hf:"],
    ["hf:", "expected hf:org/repo"],
    ["hf:repo", "expected hf:org/repo"],
    ["hf:/repo", '"" is not the name'],
    ["hf:org/", '"" is not the name'],
    ["hf:../repo", '".." is not the name'],
    ["hf:org/..", '".." is not the name'],
    ["hf:a--b/c", '"a--b" is not the name'],
    ["hf:org/-repo", '"-repo" is not the name'],
    ["hf:org/repo name", "is not the name"],
    [`hf:org/${"r".repeat(97)}`, "is not the name"],
    ["hf:org/repo@", '"" is not a revision'],
    ["hf:org/repo@..", '".." is not a revision'],
    ["hf:org/repo@a%2F..%2Fb", '"a/../b" is not a revision'],
    ["hf:org/repo@a b", "is not a revision"],
    ["hf:org/repo/", '"" is not a file name'],
    ["hf:org/repo/../x.gguf", "is not a file name"],
    ["hf:org/repo//x.gguf", "is not a file name"],
    ["hf:org/repo/x%2F.gguf", "is not a file name"],
    ["hf:org/repo/config.json", "only a file that ends in .gguf"],
    ["hf:org/repo@a@b", "is not a revision"],
    ["hf:org/repo\n", "is not the name"],
  ];
  for (const [text, message] of cases) {
    assertThrows(() => parseHubReference(text), FormatError, message);
  }
});

Deno.test("parseHubReference() gives safe paths or a FormatError on any text", () => {
  const piece = fc.constantFrom(
    "hf:",
    "/",
    "@",
    "..",
    ".",
    "--",
    "a",
    "B9",
    "%2F",
    "\\",
    ".gguf",
    " ",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 12 }), (pieces) => {
      const text = `hf:${pieces.join("")}`;
      try {
        const { repo, revision, file = "x" } = parseHubReference(text);
        for (const path of [repo, revision, file]) {
          assert(isSafePath(path) && !path.includes(".."), text);
        }
      } catch (error) {
        assert(error instanceof FormatError, text);
      }
    }),
    { numRuns: 3000, seed: 7 },
  );
});

Deno.test("isSafePath() accepts plain relative paths alone", () => {
  for (const path of ["a", "a.b", "a/b_c-d/e.f", ".gitattributes"]) assert(isSafePath(path), path);
  const unsafe = [
    "",
    ".",
    "..",
    "...",
    "/a",
    "a/",
    "a//b",
    "a/../b",
    "a\\b",
    "c:",
    "é",
    "a b",
    "\0",
  ];
  for (const path of [...unsafe, "a".repeat(1025)]) assert(!isSafePath(path), path);
});

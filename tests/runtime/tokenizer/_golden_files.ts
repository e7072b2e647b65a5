/** Puts together the tokenizers that tests/golden/make_tokenizers.py describes. */
import { sharedData } from "../../_shared_data.ts";

/** Where a tokenizer comes from and what is changed in it. */
export interface TokenizerSpec {
  readonly base?: string;
  readonly files?: {
    readonly vocab: string;
    readonly merges: string;
    readonly config?: string;
    readonly ignoreMerges?: boolean;
    readonly special?: Readonly<Record<string, number>>;
  };
  readonly dropMerges?: boolean;
  readonly patch?: Readonly<Record<string, unknown>>;
}

/** One text of the golden file, see make_tokenizers.py. */
export interface TokenizerCase {
  readonly text: string;
  readonly ids: readonly number[];
  readonly plain?: readonly number[];
  readonly decoded?: string;
}

export type TokenizerGoldens = Readonly<
  Record<string, { readonly spec: TokenizerSpec; readonly cases: readonly TokenizerCase[] }>
>;

/** The golden file. */
export function readGoldens(): TokenizerGoldens {
  return JSON.parse(
    Deno.readTextFileSync(new URL("../../golden/tokenizers.json", import.meta.url)),
  );
}

/** Text of a file in the shared tokenizer folder. */
export function readTokenizerFile(path: string): string {
  return Deno.readTextFileSync(sharedData(`tokenizers/${path}`));
}

/** The tokenizer.json of a spec, as text. */
export function tokenizerText(spec: TokenizerSpec): string {
  if (spec.base && !spec.patch && !spec.dropMerges) return readTokenizerFile(spec.base);
  const tokenizer = spec.files ? assemble(spec.files) : JSON.parse(readTokenizerFile(spec.base!));
  if (spec.dropMerges) {
    tokenizer.model.merges = tokenizer.model.merges.filter((merge: string) =>
      merge.split(" ").length === 2
    );
  }
  return JSON.stringify({ ...tokenizer, ...spec.patch });
}

const plainToken = {
  "single_word": false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
};

function assemble(files: NonNullable<TokenizerSpec["files"]>) {
  const lines = readTokenizerFile(files.merges).split("\n");
  const named = Object.entries(files.special ?? {}).map(([content, id]) => ({
    ...plainToken,
    content,
    id,
  }));
  const listed = files.config === undefined
    ? []
    : Object.entries(JSON.parse(readTokenizerFile(files.config)).added_tokens_decoder).map((
      [id, entry],
    ) => Object.assign({ id: Number(id) }, entry));
  return {
    "added_tokens": [...named, ...listed],
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      "ignore_merges": files.ignoreMerges ?? false,
      vocab: JSON.parse(readTokenizerFile(files.vocab)),
      merges: lines.filter((line) => line !== "" && !line.startsWith("#version")),
    },
  };
}

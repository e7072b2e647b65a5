/** Our side of the comparison: the WebAssembly backend behind the executor that the engine uses. */
import { createWasmBackend } from "../../runtime/backend/wasm/mod.ts";
import type { Executor, Row, Want } from "../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { openModelFiles } from "../../runtime/model_files.ts";
import { loadDecoder } from "../../runtime/models/mod.ts";
import { greedySampling } from "../../runtime/sampling.ts";
import { profiled, type ProfiledBackend } from "./_profile.ts";
import { serve, type Side } from "./_side.ts";

const PAGE_SIZE = 16;
/** Long prompts go in chunks, as in the engine. */
const CHUNK_TOKENS = 64;

function createSide(): Side {
  let executor: Executor | undefined;
  let profile: ProfiledBackend | undefined;
  let context = 0, steps = 0;
  return {
    async load(options) {
      context = options.context;
      const { config, weights } = await openModelFiles(options.path);
      using source = weights;
      profile = profiled(createWasmBackend({ threads: options.threads }), config.vocab);
      const { backend } = profile;
      const decoder = loadDecoder(config, source, backend);
      executor = await createLocalExecutor(decoder, backend, {
        pages: options.streams * Math.ceil(context / PAGE_SIZE),
        pageSize: PAGE_SIZE,
        contextLength: context,
      });
    },
    async step(position, tokens) {
      const length = tokens[0]!.length;
      let best: number[] = [];
      for (let from = 0; from < length; from += CHUNK_TOKENS) {
        const to = Math.min(length, from + CHUNK_TOKENS);
        const rows = tokens.map((own, stream) =>
          row(stream, position + from, own.subarray(from, to), { context, isLast: to === length })
        );
        const { answers } = await executor!.execute({ step: steps++, edits: [], rows });
        best = answers.flat().flatMap((answer) => answer.kind === "sample" ? [answer.token] : []);
      }
      return best;
    },
    reset() {},
    profile: { start: () => profile!.start(), end: () => profile!.end() },
  };
}

const greedyWant: Want = {
  kind: "sample",
  sampling: greedySampling,
  topLogprobs: 0,
  promptTokens: [],
  completionTokens: [],
};

/** Each stream has the pages from its own first slot on. */
function row(
  stream: number,
  position: number,
  tokens: Uint32Array<ArrayBuffer>,
  { context, isLast }: { readonly context: number; readonly isLast: boolean },
): Row {
  const pagesEach = Math.ceil(context / PAGE_SIZE);
  const positions = tokens.map((_, i) => position + i);
  return {
    tokens,
    positions,
    slots: [positions.map((p) => stream * pagesEach * PAGE_SIZE + p)],
    tables: {
      granularity: "sequence",
      pages: [Uint32Array.from({ length: pagesEach }, (_, i) => stream * pagesEach + i)],
      counts: Uint32Array.of(position + tokens.length),
    },
    wants: isLast ? [greedyWant] : [],
  };
}

await serve(createSide());

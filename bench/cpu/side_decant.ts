/** Our side of the comparison: the WebAssembly backend behind the executor that the engine uses. */
import { createWasmBackend } from "../../runtime/backend/wasm/mod.ts";
import type { Executor, Row } from "../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { openModelFiles } from "../../runtime/model_files.ts";
import { loadDecoder } from "../../runtime/models/mod.ts";
import { greedySampling } from "../../runtime/sampling.ts";
import { serve, type Side } from "./_side.ts";

const PAGE_SIZE = 16;

function createSide(): Side {
  let executor: Executor | undefined;
  let context = 0, steps = 0;
  return {
    async load(options) {
      context = options.context;
      const { config, weights } = await openModelFiles(options.path);
      using source = weights;
      const backend = createWasmBackend({ threads: options.threads });
      const decoder = loadDecoder(config, source, backend);
      executor = await createLocalExecutor(decoder, backend, {
        pages: options.streams * Math.ceil(context / PAGE_SIZE),
        pageSize: PAGE_SIZE,
        contextLength: context,
      });
    },
    async step(position, tokens) {
      const rows = tokens.map((own, stream) => row(stream, position, own, context));
      const { answers } = await executor!.execute({ step: steps++, edits: [], rows });
      return answers.map(([answer]) => {
        if (answer?.kind !== "sample") throw new TypeError("The executor gave no sample");
        return answer.token;
      });
    },
    reset() {},
  };
}

/** Each stream has the pages from its own first slot on. */
function row(
  stream: number,
  position: number,
  tokens: Uint32Array<ArrayBuffer>,
  context: number,
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
    wants: [{
      kind: "sample",
      sampling: greedySampling,
      topLogprobs: 0,
      promptTokens: [],
      completionTokens: [],
    }],
  };
}

await serve(createSide());

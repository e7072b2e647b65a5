/**
 * Another side: transformers.js on its engine for servers, onnxruntime's native library, with an ONNX
 * file of the same weights (onnx_file.ts). Every step is a call of the model as its own `generate`
 * makes it, without the sampling around it.
 */
import { serve, type Side } from "./_side.ts";

/** The version of transformers.js, which fixes onnxruntime's. */
const VERSION = "4.3.1";

/** The part of transformers.js that is used. */
interface Transformers {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly AutoModelForCausalLM: {
    ["from_pretrained"](name: string, options: Record<string, unknown>): Promise<Model>;
  };
  readonly Tensor: new (
    type: "int64",
    data: BigInt64Array,
    shape: readonly number[],
  ) => TensorLike;
}

interface TensorLike {
  readonly data: Float32Array;
  dispose(): void;
}

interface Model {
  (inputs: Record<string, unknown>): Promise<Readonly<Record<string, TensorLike>>>;
}

async function loadLibrary(): Promise<Transformers> {
  // A computed name: the package is fetched for this process only and is no part of the lock file.
  const specifier = `npm:@huggingface/transformers@${VERSION}`;
  return await import(specifier) as Transformers;
}

function createSide({ env, AutoModelForCausalLM, Tensor }: Transformers): Side {
  let model: Model | undefined;
  let past: Readonly<Record<string, TensorLike>> | undefined;
  const ones = (rows: number, columns: number) =>
    new Tensor("int64", new BigInt64Array(rows * columns).fill(1n), [rows, columns]);
  const reset = () => {
    for (const tensor of Object.values(past ?? {})) tensor.dispose();
    past = undefined;
  };
  return {
    async load({ path, threads }) {
      const cut = path.lastIndexOf("/");
      env.allowRemoteModels = false;
      env.localModelPath = path.slice(0, cut + 1);
      model = await AutoModelForCausalLM.from_pretrained(path.slice(cut + 1), {
        dtype: "fp32", // the name of the file, not what is in it
        device: "cpu",
        session_options: { intraOpNumThreads: threads, interOpNumThreads: 1 },
      });
    },
    async step(position, tokens) {
      const rows = tokens.length, length = tokens[0]!.length;
      const ids = BigInt64Array.from(tokens.flatMap((own) => [...own]), BigInt);
      const output = await model!({
        input_ids: new Tensor("int64", ids, [rows, length]),
        attention_mask: ones(rows, position + length),
        ...past === undefined ? {} : { past_key_values: past },
      });
      reset();
      past = Object.fromEntries(
        Object.entries(output).filter(([name]) => name.startsWith("present"))
          .map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor]),
      );
      const { data } = output.logits!;
      const vocab = data.length / rows;
      const best = tokens.map((_, row) => largest(data, row * vocab, (row + 1) * vocab));
      output.logits!.dispose();
      return best;
    },
    reset,
  };
}

/** Index of the largest value from `from` on, counted from there. */
function largest(values: Float32Array, from: number, end: number): number {
  let best = from;
  for (let i = from + 1; i < end; i++) if (values[i]! > values[best]!) best = i;
  return best - from;
}

await serve(createSide(await loadLibrary()));

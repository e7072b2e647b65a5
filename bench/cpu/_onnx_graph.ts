/** An ONNX graph as a message, node by node. */
import { Message } from "./_protobuf.ts";

/** Element types of ONNX. */
export const FLOAT = 1, UINT8 = 2, INT32 = 6, INT64 = 7;

type Attributes = Readonly<Record<string, number | { readonly float: number }>>;

/** Nodes, constants, inputs and outputs under construction; field numbers as in `onnx.proto`. */
export class Graph {
  readonly message = new Message();
  #names = 0;

  /** @returns the first output */
  node(
    op: string,
    inputs: readonly string[],
    { outputs, domain = "", attributes = {} }: {
      readonly outputs?: readonly string[];
      readonly domain?: string;
      readonly attributes?: Attributes;
    } = {},
  ): string {
    const names = outputs ?? [`t${this.#names++}`];
    const node = new Message();
    for (const input of inputs) node.text(1, input);
    for (const output of names) node.text(2, output);
    node.text(3, `n${this.#names++}`).text(4, op);
    for (const [name, value] of Object.entries(attributes)) {
      const attribute = new Message().text(1, name);
      if (typeof value === "number") attribute.int(3, value).int(20, 2);
      else attribute.float(2, value.float).int(20, 1);
      node.message(5, attribute);
    }
    this.message.message(1, node.text(7, domain));
    return names[0]!;
  }

  constant(
    name: string,
    type: number,
    shape: readonly number[],
    data: Float32Array | Uint8Array | Int32Array | BigInt64Array,
  ): string {
    const tensor = new Message();
    for (const size of shape) tensor.int(1, size);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.message.message(5, tensor.int(2, type).text(8, name).bytes(9, bytes));
    return name;
  }

  integers(name: string, ...values: readonly number[]): string {
    return this.constant(name, INT64, [values.length], BigInt64Array.from(values, BigInt));
  }

  input(name: string, type: number, shape: readonly (number | string)[]): string {
    this.message.message(11, valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: number, shape: readonly (number | string)[]): void {
    this.message.message(12, valueInfo(name, type, shape));
  }
}

function valueInfo(name: string, type: number, shape: readonly (number | string)[]): Message {
  const dims = new Message();
  for (const size of shape) {
    const dim = new Message();
    dims.message(1, typeof size === "number" ? dim.int(1, size) : dim.text(2, size));
  }
  const tensor = new Message().int(1, type).message(2, dims);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

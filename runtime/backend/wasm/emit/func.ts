/** Builds one function: parameters, locals, statements. */
import { list, sized, unsigned } from "./bytes.ts";
import { type Expr, i32, type ValueType } from "./expr.ts";

const typeCodes: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
};

/** A parameter or local variable; as an expression, its value. */
export interface Local<T extends ValueType> extends Expr<T> {
  readonly index: number;
}

/** Parameter name -> type, in order. */
export type Signature = Readonly<Record<string, ValueType>>;

/** The parameters of a signature as variables. */
export type Params<S extends Signature> = { readonly [K in keyof S]: Local<S[K]> };

/** Collects the code of one function without results. Statements are added in the order of calls. */
export class Func {
  readonly #params: ValueType[] = [];
  readonly #locals: ValueType[] = [];
  readonly #code: number[] = [];

  /** All parameters come before the first local. */
  param<T extends ValueType>(type: T): Local<T> {
    this.#params.push(type);
    return this.#variable(type);
  }

  /** A new variable, 0 at first or the value of `initial`. */
  local<T extends ValueType>(type: T, initial?: Expr<T>): Local<T> {
    this.#locals.push(type);
    const variable = this.#variable(type);
    if (initial !== undefined) this.set(variable, initial);
    return variable;
  }

  set<T extends ValueType>(variable: Local<T>, value: Expr<T>): void {
    this.#code.push(...value.code, 0x21, ...unsigned(variable.index));
  }

  /** variable += amount */
  advance(variable: Local<"i32">, amount: Expr<"i32"> | number): void {
    this.set(variable, i32.add(variable, typeof amount === "number" ? i32.const(amount) : amount));
  }

  /** Writes 4, 8 or 16 bytes at `address + offset`. */
  store(address: Expr<"i32">, value: Expr<ValueType>, offset = 0): void {
    const op = { i32: [0x36], f32: [0x38], f64: [0x39], v128: [0xfd, 0x0b] }[value.type];
    this.#code.push(...address.code, ...value.code, ...op, 0, ...unsigned(offset));
  }

  /** Writes the low 2 bytes at `address + offset`. */
  store16(address: Expr<"i32">, value: Expr<"i32">, offset = 0): void {
    this.#code.push(...address.code, ...value.code, 0x3b, 0, ...unsigned(offset));
  }

  /** Writes the 32-bit lane `lane` of `value` at `address + offset`. */
  storeLane(address: Expr<"i32">, value: Expr<"v128">, lane: number, offset = 0): void {
    this.#code.push(...address.code, ...value.code, 0xfd, 0x5a, 0, ...unsigned(offset), lane);
  }

  if(condition: Expr<"i32">, then: () => void, otherwise?: () => void): void {
    this.#code.push(...condition.code, 0x04, 0x40);
    then();
    if (otherwise !== undefined) {
      this.#code.push(0x05);
      otherwise();
    }
    this.#code.push(0x0b);
  }

  /** while (index < end) { body; index += step }, both unsigned. */
  loop(index: Local<"i32">, end: Expr<"i32">, step: Expr<"i32"> | number, body: () => void): void {
    // block { br_if (index >= end); loop { body; index += step; br_if (index < end) } }
    this.#code.push(0x02, 0x40, ...i32.geU(index, end).code, 0x0d, 0, 0x03, 0x40);
    body();
    this.advance(index, step);
    this.#code.push(...i32.ltU(index, end).code, 0x0d, 0, 0x0b, 0x0b);
  }

  /** Ends the function. */
  return(): void {
    this.#code.push(0x0f);
  }

  /** Parameter types as a function type. */
  get type(): number[] {
    return [0x60, ...list(this.#params.map((type) => [typeCodes[type]])), 0];
  }

  /** Locals and code as an entry of the code section. */
  get body(): number[] {
    const locals = this.#locals.map((type) => [1, typeCodes[type]]);
    return sized([...list(locals), ...this.#code, 0x0b]);
  }

  #variable<T extends ValueType>(type: T): Local<T> {
    const index = this.#params.length + this.#locals.length - 1;
    return { type, index, code: [0x20, ...unsigned(index)] };
  }
}

/** A named function of a module. */
export interface Kernel {
  readonly name: string;
  readonly func: Func;
}

/**
 * Defines a function.
 *
 * @param build adds the statements; gets the parameters by their names
 */
export function kernel<const S extends Signature>(
  name: string,
  signature: S,
  build: (f: Func, params: Params<S>) => void,
): Kernel {
  const func = new Func();
  const params = Object.fromEntries(
    Object.entries(signature).map(([key, type]) => [key, func.param(type)]),
  );
  build(func, params as Params<S>);
  return { name, func };
}

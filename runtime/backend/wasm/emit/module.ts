/** Puts functions together into the bytes of a module. */
import { list, name, sized, unsigned } from "./bytes.ts";
import type { Kernel } from "./func.ts";

/** Largest memory of a module with 32-bit addresses, in pages of 64 KiB. */
export const MAX_PAGES = 65_536;

const section = (id: number, items: readonly (readonly number[])[]): number[] => [
  id,
  ...sized(list(items)),
];

/** What a module is for. */
export interface ModuleOptions {
  /** Whether the memory is shared by threads. @default false */
  readonly shared?: boolean;
}

/**
 * A module that imports its memory as `env.memory` and exports each function by its name.
 *
 * Source: WebAssembly core specification, section 5.5.
 */
export function moduleBytes(
  kernels: readonly Kernel[],
  { shared = false }: ModuleOptions = {},
): Uint8Array<ArrayBuffer> {
  const limits = shared ? 3 : 1; // minimum and maximum; shared or not
  const memory = [
    ...name("env"),
    ...name("memory"),
    2,
    limits,
    // A minimum spares engines that check bounds a comparison per access: offsets are below it.
    ...unsigned(1),
    ...unsigned(MAX_PAGES),
  ];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
    ...section(1, kernels.map(({ func }) => func.type)),
    ...section(2, [memory]),
    ...section(3, kernels.map((_, index) => unsigned(index))),
    ...section(7, kernels.map((kernel, index) => [...name(kernel.name), 0, ...unsigned(index)])),
    ...section(10, kernels.map(({ func }) => func.body)),
  ]);
}

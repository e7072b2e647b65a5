/** Compiles constraints off the request loop, and remembers them. */
import type { Constraint } from "../constraint.ts";
import { ClosedError, EngineError } from "../errors.ts";
import type { Vocab } from "../model.ts";
import { createTextCheck } from "./check.ts";
import type { CompileReply, CompileRequest } from "./messages.ts";
import {
  bindConstraint,
  compileConstraint,
  type CompiledConstraint,
  type ConstraintLimits,
  constraintLimits,
  type ConstraintSpec,
} from "./spec.ts";

/** Where and how long to compile. */
export interface CompilerOptions {
  /** A Worker, which stops what takes too long. @default this thread, bounded by counted steps alone */
  readonly channel?: CompileChannel | undefined;
  /** Longest time of one compilation or check, in ms. @default 2000 */
  readonly limitMs?: number;
  /** Constraints remembered; the least recently used goes first. @default 16 */
  readonly entries?: number;
  /** Bytes of requests' texts that are remembered constraints. @default 1 MiB */
  readonly keyBytes?: number;
  readonly limits?: ConstraintLimits;
}

/** Another thread that compiles. */
export interface CompileChannel {
  /** @throws what the work throws, {EngineError} if the thread ended, {ClosedError} after `end` */
  ask(request: CompileRequest): Promise<CompileReply>;
  /** Ends the thread; everything that waits and comes later fails with this. */
  end(error: unknown): void;
}

/** A constraint ready for use. */
export interface ReadyConstraint {
  readonly constraint: Constraint;
  /** What the schema asks for that is not checked, e.g. unknown formats. */
  readonly notes: readonly string[];
}

/** Compiles constraints and checks finished texts. */
export interface ConstraintCompiler {
  /**
   * The constraint over a vocabulary. The same content, vocabulary and tenant give the same object.
   *
   * @param tenant whose it is: nobody learns from its speed what others have asked for
   * @throws {FormatError} for what is malformed, contradictory or not supported
   * @throws {ConstraintTooComplexError} above a limit, of time as well
   * @throws {RangeError} if the vocabulary cannot write its texts
   */
  constraint(spec: ConstraintSpec, vocab: Vocab, tenant: string): Promise<ReadyConstraint>;
  /**
   * Whether it can be understood, for models that honour it by themselves.
   *
   * @returns what it asks for that is not checked
   * @throws {FormatError | ConstraintTooComplexError} as {@link constraint}
   */
  check(spec: ConstraintSpec, tenant: string): Promise<readonly string[]>;
  /** Whether a finished text satisfies it, by a second implementation. */
  accepts(spec: ConstraintSpec, text: string): Promise<boolean>;
  /** Ends the Worker, if there is one. */
  close(): void;
}

interface Entry {
  readonly compiled: Promise<CompiledConstraint>;
  readonly bound: WeakMap<Vocab, Constraint>;
}

/** @param options none = everything in this thread */
export function createConstraintCompiler(options: CompilerOptions = {}): ConstraintCompiler {
  const { limitMs = 2000, entries = 16, keyBytes = 1 << 20, limits = constraintLimits } = options;
  const known = new Map<string, Entry>();
  const { channel } = options;
  let bytes = 0;

  async function compile(spec: ConstraintSpec): Promise<CompiledConstraint> {
    if (!channel) return compileConstraint(spec, limits);
    const reply = await channel.ask({ type: "compile", spec, limits, limitMs });
    if (reply.type !== "compiled") throw new EngineError(`The Worker answered ${reply.type}`);
    return reply.compiled;
  }
  function entryOf(key: string, spec: ConstraintSpec): Entry {
    let entry = known.get(key);
    if (entry) known.delete(key);
    else {
      entry = { compiled: compile(spec), bound: new WeakMap() };
      // Whoever waits sees the failure; what failed for good is remembered like what compiled.
      entry.compiled.catch((error) => {
        if (error instanceof EngineError || error instanceof ClosedError) known.delete(key);
      });
      bytes += key.length;
    }
    known.set(key, entry);
    for (const old of known.keys()) {
      if ((known.size <= entries && bytes <= keyBytes) || known.size === 1) break;
      known.delete(old);
      bytes -= old.length;
    }
    return entry;
  }

  const find = (spec: ConstraintSpec, tenant: string) =>
    entryOf(`${tenant}\n${JSON.stringify(spec)}`, spec);
  return {
    async constraint(spec, vocab, tenant) {
      const entry = find(spec, tenant);
      const compiled = await entry.compiled;
      let constraint = entry.bound.get(vocab);
      if (!constraint) {
        constraint = bindConstraint(compiled, vocab, limits);
        entry.bound.set(vocab, constraint);
      }
      return { constraint, notes: notesOf(compiled) };
    },
    check: async (spec, tenant) => notesOf(await find(spec, tenant).compiled),
    async accepts(spec, text) {
      if (!channel) return createTextCheck(spec, limits)(text);
      const reply = await channel.ask({ type: "check", spec, limits, limitMs, text });
      if (reply.type !== "checked") throw new EngineError(`The Worker answered ${reply.type}`);
      return reply.isValid;
    },
    close: () => channel?.end(new ClosedError("The gateway has closed")),
  };
}

function notesOf(compiled: CompiledConstraint): readonly string[] {
  return compiled.kind === "json_schema" ? compiled.program.notes : [];
}

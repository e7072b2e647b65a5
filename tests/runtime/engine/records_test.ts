import { assertEquals, assertThrows } from "@std/assert";
import { OutOfMemoryError } from "../../../runtime/errors.ts";
import { getPolicy } from "../../../runtime/kv/policies/mod.ts";
import { RecordLedger, type RecordRoom } from "../../../runtime/engine/records.ts";

const room: RecordRoom = {
  bytes: 100,
  bounds: 50,
  signals: {
    "attention-sum f32": 40,
    "attention-sum int8": 30,
    "key-norm f32": 40,
    "query f32": Infinity,
    "adapter:nats f32": 61,
  },
};

function reserve(ledger: RecordLedger, name: string, params: unknown = {}): void {
  const policy = getPolicy(name);
  ledger.reserve(policy, policy.params.parse(params));
}

Deno.test("reserve() counts each record once and refuses the first policy that finds no room", () => {
  const ledger = new RecordLedger(room);
  for (const name of ["full", "h2o", "snapkv", "key-norm", "h2o"]) reserve(ledger, name);
  const error = assertThrows(() => reserve(ledger, "nats"), OutOfMemoryError, '"nats"');
  assertEquals([error.needed, error.left], [61, 20]);
  assertThrows(() => reserve(ledger, "quest"), OutOfMemoryError);
  // Those that are in and those that record nothing go on.
  for (const name of ["snapkv", "key-norm", "full", "streaming"]) reserve(ledger, name);
});

Deno.test("reserve() counts bounds, and what a policy's own slots take with them into another format", () => {
  const ledger = new RecordLedger(room);
  reserve(ledger, "quest");
  reserve(ledger, "h2o");
  const error = assertThrows(
    () => reserve(ledger, "h2o", { format: "int8" }),
    OutOfMemoryError,
  );
  assertEquals([error.needed, error.left], [30, 10]);
  // A format alone takes nothing along, whatever others record.
  reserve(ledger, "int8");
  const other = new RecordLedger(room);
  reserve(other, "h2o", { format: "int8" });
  reserve(other, "h2o");
  assertThrows(() => reserve(other, "quest"), OutOfMemoryError);
});

Deno.test("reserve() says that what cannot be bound can never be had", () => {
  assertThrows(
    () => reserve(new RecordLedger(room), "expected-attention"),
    OutOfMemoryError,
    "more than the backend can bind",
  );
  reserve(new RecordLedger(undefined), "expected-attention");
});

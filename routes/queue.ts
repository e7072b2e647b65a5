/**
 * Who works now and who waits: a number of places per model, some of them per key, and a bounded
 * line behind each. Places go to the key that holds fewest, then to the one that was served longest
 * ago, then in order of arrival, so that one busy key cannot shut out the others.
 */
import { ApiError } from "./errors.ts";

/** Places of one model or one key. */
export interface Room {
  /** Requests at work at once. */
  readonly running: number;
  /** Requests that may wait beside them. */
  readonly queued: number;
}

/** Who asks for a place. */
export interface Ticket {
  readonly model: string;
  /** Identity of the key; "" = nobody in particular, without limits of its own. */
  readonly key: string;
  readonly modelRoom: Room;
  /** Undefined = as much as the model has. */
  readonly keyRoom: Room | undefined;
}

/** A place, taken or waited for. */
export interface Place {
  /** Resolves when the request may work; undefined if it may at once. */
  readonly ready: Promise<void> | undefined;
  /** Gives the place back, or leaves the line. May be called more than once. */
  leave(): void;
}

/** Places of all models. */
export interface Queue {
  /** @throws {ApiError} 429 `queue_full` or `concurrency_exceeded`: there is no room to wait either */
  enter(ticket: Ticket): Place;
  /** Requests at work and waiting at a model. */
  count(model: string): { readonly running: number; readonly waiting: number };
}

interface Count {
  running: number;
  waiting: number;
  /** When it got its last place; larger is later. */
  servedAt: number;
}

interface Waiter {
  readonly ticket: Ticket;
  readonly start: () => void;
}

/** An empty queue. */
export function createQueue(): Queue {
  const models = new Map<string, Count>();
  const keys = new Map<string, Count>();
  const waiters: Waiter[] = [];
  let served = 0;

  const countOf = (counts: Map<string, Count>, name: string): Count => {
    let count = counts.get(name);
    if (!count) counts.set(name, count = { running: 0, waiting: 0, servedAt: 0 });
    return count;
  };
  const both = ({ model, key }: Ticket) => [countOf(models, model), countOf(keys, key)] as const;
  const hasPlace = (ticket: Ticket): boolean => {
    const [model, key] = both(ticket);
    return model.running < ticket.modelRoom.running &&
      (ticket.keyRoom === undefined || key.running < ticket.keyRoom.running);
  };
  const take = (ticket: Ticket): void => {
    for (const count of both(ticket)) {
      count.running++;
      count.servedAt = ++served;
    }
  };
  const give = (ticket: Ticket, what: "running" | "waiting"): void => {
    const [model, key] = both(ticket);
    model[what]--;
    key[what]--;
    if (key.running + key.waiting === 0) keys.delete(ticket.key);
  };

  /** The waiter whose turn it is, among those that have a place. */
  function next(): number {
    let best = -1;
    for (const [i, { ticket }] of waiters.entries()) {
      if (!hasPlace(ticket)) continue;
      if (best < 0 || comesBefore(countOf(keys, ticket.key), bestKey(best))) best = i;
    }
    return best;
  }
  const bestKey = (index: number) => countOf(keys, waiters[index]!.ticket.key);

  function serve(): void {
    for (let index = next(); index >= 0; index = next()) {
      const [{ ticket, start }] = waiters.splice(index, 1) as [Waiter];
      // Taken before the place in line is given up: the key's count must not vanish in between.
      take(ticket);
      give(ticket, "waiting");
      start();
    }
  }

  function wait(ticket: Ticket): Place {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = { ticket, start: resolve };
    waiters.push(waiter);
    for (const count of both(ticket)) count.waiting++;
    let hasLeft = false;
    return {
      ready: promise,
      leave() {
        if (hasLeft) return;
        hasLeft = true;
        const index = waiters.indexOf(waiter);
        if (index >= 0) waiters.splice(index, 1);
        give(ticket, index >= 0 ? "waiting" : "running");
        serve();
      },
    };
  }

  return {
    enter(ticket) {
      if (hasPlace(ticket)) {
        take(ticket);
        let hasLeft = false;
        const leave = () => {
          if (hasLeft) return;
          hasLeft = true;
          give(ticket, "running");
          serve();
        };
        return { ready: undefined, leave };
      }
      const [model, key] = both(ticket);
      requireRoom(model, key, ticket);
      return wait(ticket);
    },
    count(model) {
      const { running, waiting } = models.get(model) ?? { running: 0, waiting: 0 };
      return { running, waiting };
    },
  };
}

function comesBefore(a: Count, b: Count): boolean {
  return a.running < b.running || a.running === b.running && a.servedAt < b.servedAt;
}

function requireRoom(model: Count, key: Count, { modelRoom, keyRoom }: Ticket): void {
  if (keyRoom !== undefined && key.running >= keyRoom.running && key.waiting >= keyRoom.queued) {
    throw full("concurrency_exceeded", "This key has too many requests at once; try again");
  }
  if (model.waiting >= modelRoom.queued) {
    throw full("queue_full", "Too many requests for this model; try again");
  }
  if (keyRoom !== undefined && key.waiting >= keyRoom.queued) {
    throw full("queue_full", "Too many requests of this key wait; try again");
  }
}

function full(code: string, message: string): ApiError {
  return new ApiError(429, code, message, { headers: { "retry-after": "1" } });
}

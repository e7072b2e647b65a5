/**
 * Two calls for one answer, where the first is slow to begin: whichever speaks first is kept.
 *
 * Source: Dean & Barroso 2013, "The tail at scale", https://doi.org/10.1145/2408776.2408794, hedged
 * requests.
 */

/** How a second call is made. */
export interface Hedge<T> {
  /** Makes the first or the second call; it must end when its signal fires. */
  readonly begin: (signal: AbortSignal, isSecond: boolean) => Promise<T>;
  /** Calls back after the time the first may take; returns what cancels that. */
  readonly after: (run: () => void) => () => void;
  /** Whether there is anybody else to ask. */
  readonly canSecond: () => boolean;
  readonly signal: AbortSignal;
  /** Ends a result that came too late. */
  readonly drop: (result: T) => void;
}

/**
 * The result that comes first. If both calls fail, the first one's failure.
 *
 * @throws what the first call rejects with
 */
export function hedged<T>({ begin, after, canSecond, signal, drop }: Hedge<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const controls: AbortController[] = [];
    const failures: unknown[] = [];
    let running = 0;
    let isOver = false;
    const cancel = after(() => {
      if (!isOver && running === 1 && canSecond()) start();
    });

    function start(): void {
      const index = controls.length;
      const control = new AbortController();
      controls.push(control);
      running++;
      begin(AbortSignal.any([signal, control.signal]), index === 1).then((result) => {
        if (isOver) return drop(result);
        end();
        controls.forEach((other, i) => i !== index && other.abort(late));
        resolve(result);
      }, (error) => {
        failures[index] = error;
        if (--running > 0 || isOver) return;
        end();
        reject(failures[0]);
      });
    }

    function end(): void {
      isOver = true;
      cancel();
    }

    start();
  });
}

const late = new DOMException("Another call was quicker", "AbortError");

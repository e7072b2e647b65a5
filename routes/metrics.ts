/** Counters, gauges and histograms in Prometheus' text format. */

/** Label name -> value, from closed sets only: never key, user or text. */
export type Labels = Readonly<Record<string, string>>;

const prefix = "decoding_gateway_";

/** Counters or gauges, one value per set of labels. */
export class Family {
  readonly #values = new Map<string, number>();

  constructor(
    readonly name: string,
    readonly type: "counter" | "gauge",
    readonly help: string,
  ) {}

  add(labels: Labels, by: number): void {
    const key = write(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + by);
  }

  set(labels: Labels, value: number): void {
    this.#values.set(write(labels), value);
  }

  value(labels: Labels): number {
    return this.#values.get(write(labels)) ?? 0;
  }

  text(): string {
    const lines = head(this.name, this.type, this.help);
    for (const [labels, value] of this.#values) {
      lines.push(`${prefix}${this.name}${labels} ${value}`);
    }
    return lines.join("\n");
  }
}

interface Cells {
  readonly labels: Labels;
  readonly counts: number[];
  sum: number;
}

/** How often values fell into which range, per set of labels. */
export class Histogram {
  readonly #cells = new Map<string, Cells>();

  /** @param bounds upper bounds of the ranges, ascending */
  constructor(readonly name: string, readonly bounds: readonly number[], readonly help: string) {}

  observe(labels: Labels, value: number): void {
    const key = write(labels);
    let cells = this.#cells.get(key);
    if (!cells) {
      cells = { labels, counts: new Array(this.bounds.length + 1).fill(0), sum: 0 };
      this.#cells.set(key, cells);
    }
    const range = this.bounds.findIndex((bound) => value <= bound);
    cells.counts[range < 0 ? this.bounds.length : range]!++;
    cells.sum += value;
  }

  text(): string {
    const name = prefix + this.name;
    const lines = head(this.name, "histogram", this.help);
    for (const { labels, counts, sum } of this.#cells.values()) {
      let total = 0;
      for (const [i, bound] of [...this.bounds, "+Inf"].entries()) {
        total += counts[i]!;
        lines.push(`${name}_bucket${write({ ...labels, le: String(bound) })} ${total}`);
      }
      lines.push(`${name}_sum${write(labels)} ${sum}`, `${name}_count${write(labels)} ${total}`);
    }
    return lines.join("\n");
  }
}

function head(name: string, type: string, help: string): string[] {
  return [`# HELP ${prefix}${name} ${help}`, `# TYPE ${prefix}${name} ${type}`];
}

function write(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

const seconds = [.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const firstToken = [.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10];
const bytes = Array.from({ length: 12 }, (_, power) => 4096 * 4 ** power);
const shares = [.01, .02, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1];
const betweenTokens = [
  .0005,
  .001,
  .0025,
  .005,
  .01,
  .025,
  .05,
  .075,
  .1,
  .15,
  .2,
  .3,
  .4,
  .5,
  1,
  2.5,
];

/** Everything the HTTP floor counts. Durations are in seconds. */
function families() {
  const counter = (name: string, help: string) => new Family(name, "counter", help);
  const gauge = (name: string, help: string) => new Family(name, "gauge", help);
  return {
    /** Labels route, strategy, model, status. */
    requests: counter("requests_total", "Answered requests."),
    /** Label model, as the two below. */
    running: gauge("requests_running", "Requests at work."),
    waiting: gauge("requests_waiting", "Requests in line for a place."),
    queueTime: new Histogram("queue_time_seconds", seconds, "Time in line for a place."),
    /** Labels model and strategy, as everything below. */
    duration: new Histogram("request_duration_seconds", seconds, "Time until the last byte."),
    firstToken: new Histogram("time_to_first_token_seconds", firstToken, "Time until text came."),
    betweenTokens: new Histogram(
      "inter_token_latency_seconds",
      betweenTokens,
      "Time from text to text, per token.",
    ),
    promptTokens: counter("prompt_tokens_total", "Prompt tokens of requests."),
    generatedTokens: counter("generated_tokens_total", "Tokens sent to clients."),
    drawnTokens: counter("tokens_drawn_total", "Tokens drawn, sent or not."),
    discardedTokens: counter("tokens_discarded_total", "Tokens drawn and not sent."),
    draftTokens: counter("draft_tokens_total", "Tokens proposed by drafts."),
    acceptedTokens: counter("draft_tokens_accepted_total", "Proposed tokens that were kept."),
    constraintRejections: counter(
      "constraint_rejections_total",
      "Requests whose text a constraint refused.",
    ),
    /** Labels model and policy, as the one below. */
    kvBytes: new Histogram("kv_bytes", bytes, "Most KV bytes a request held at once."),
    kvKept: new Histogram("kv_tokens_kept_ratio", shares, "Tokens in the KV cache at the end."),
    /** Label kind. */
    constraintCompile: new Histogram(
      "constraint_compile_seconds",
      betweenTokens,
      "Time to compile a constraint.",
    ),
    /** Label reason. */
    cancelled: counter("cancelled_total", "Requests ended early, by reason."),
    /** Labels upstream and kind. */
    upstreamErrors: counter("upstream_errors_total", "Failed calls of upstreams."),
    /** Label upstream; 0 closed, 1 half open, 2 open. */
    circuit: gauge("circuit_state", "Circuit of an upstream: 0 closed, 1 half open, 2 open."),
    /** Label model. */
    deviceLost: counter("gpu_device_lost_total", "How often a GPU or a Worker was lost."),
  };
}

/** Everything that is counted. */
export type Metrics = ReturnType<typeof families> & {
  /** The page, with further gauges by name. */
  text(gauges: Readonly<Record<string, number>>): string;
};

/** Metrics at zero. */
export function createMetrics(): Metrics {
  const all = families();
  return {
    ...all,
    text(gauges) {
      const extra = Object.entries(gauges).map(([name, value]) =>
        `# TYPE ${prefix}${name} gauge\n${prefix}${name} ${value}`
      );
      return [...Object.values(all).map((family) => family.text()), ...extra, ""].join("\n");
    },
  };
}

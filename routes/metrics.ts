/** Counters and gauges in Prometheus' text format. */

/** Label name -> value, from closed sets only: never key, user or text. */
export type Labels = Readonly<Record<string, string>>;

const prefix = "decoding_gateway_";

/** A family of counters or gauges, one value per set of labels. */
class Family {
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

  value(labels: Labels): number {
    return this.#values.get(write(labels)) ?? 0;
  }

  text(): string {
    const name = prefix + this.name;
    const lines = [`# HELP ${name} ${this.help}`, `# TYPE ${name} ${this.type}`];
    for (const [labels, value] of this.#values) lines.push(`${name}${labels} ${value}`);
    return lines.join("\n");
  }
}

function write(labels: Labels): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

/** Everything the HTTP floor counts. */
export interface Metrics {
  /** Labels route, strategy, model, status. */
  readonly requests: Family;
  /** Requests at work right now, by model. */
  readonly running: Family;
  readonly promptTokens: Family;
  readonly generatedTokens: Family;
  readonly drawnTokens: Family;
  /** Label reason. */
  readonly cancelled: Family;
  /** The page, with further gauges by name. */
  text(gauges: Readonly<Record<string, number>>): string;
}

/** Metrics at zero. */
export function createMetrics(): Metrics {
  const families = {
    requests: new Family("requests_total", "counter", "Answered requests."),
    running: new Family("requests_running", "gauge", "Requests at work."),
    promptTokens: new Family("prompt_tokens_total", "counter", "Prompt tokens of requests."),
    generatedTokens: new Family("generated_tokens_total", "counter", "Tokens sent to clients."),
    drawnTokens: new Family("tokens_drawn_total", "counter", "Tokens drawn, sent or not."),
    cancelled: new Family("cancelled_total", "counter", "Requests ended early, by reason."),
  };
  return {
    ...families,
    text(gauges) {
      const extra = Object.entries(gauges).map(([name, value]) =>
        `# TYPE ${prefix}${name} gauge\n${prefix}${name} ${value}`
      );
      return [...Object.values(families).map((family) => family.text()), ...extra, ""].join("\n");
    },
  };
}

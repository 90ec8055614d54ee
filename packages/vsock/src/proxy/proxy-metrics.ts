type Outcome = 'done' | 'idle' | 'error' | 'refused' | 'full' | 'bad-request' | 'unreachable';
export type Way = 'connect' | 'egress' | 'ingress';

/** Counters in the text form of Prometheus; their labels are ours, so none grows with what strangers send. */
export class ProxyMetrics {
  readonly #connections = new Map<string, number>();
  readonly #bytes = { out: 0, in: 0 };
  readonly #open: () => number;

  constructor(open: () => number) {
    this.#open = open;
  }

  ended(way: Way, outcome: Outcome): void {
    const labels = `way="${way}",outcome="${outcome}"`;
    this.#connections.set(labels, (this.#connections.get(labels) ?? 0) + 1);
  }

  flowed(outOfEnclave: number, intoEnclave: number): void {
    this.#bytes.out += outOfEnclave;
    this.#bytes.in += intoEnclave;
  }

  text(): string {
    const name = 'dstack_vsock_proxy';
    return [
      `# HELP ${name}_connections_total Connections by way and outcome.`,
      `# TYPE ${name}_connections_total counter`,
      ...[...this.#connections].map(([labels, count]) => `${name}_connections_total{${labels}} ${count}`),
      `# HELP ${name}_bytes_total Bytes out of and into enclaves, of connections that have ended.`,
      `# TYPE ${name}_bytes_total counter`,
      ...Object.entries(this.#bytes).map(
        ([way, bytes]) => `${name}_bytes_total{direction="${way}"} ${bytes}`,
      ),
      `# HELP ${name}_connections_open Open connections.`,
      `# TYPE ${name}_connections_open gauge`,
      `${name}_connections_open ${this.#open()}`,
      '',
    ].join('\n');
  }
}

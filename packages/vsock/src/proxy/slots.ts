import type { ProxyLimits } from './proxy-config.ts';

/** Counts open connections, all and by source; what is over a limit is turned away before anything is read of it. */
export class Slots {
  readonly #limits: Pick<ProxyLimits, 'connections' | 'connections_per_source'>;
  readonly #bySource = new Map<string, number>();
  #open = 0;

  constructor(limits: Pick<ProxyLimits, 'connections' | 'connections_per_source'>) {
    this.#limits = limits;
  }

  get open(): number {
    return this.#open;
  }

  /** Takes a place. @returns what gives it back; undefined when there is none */
  take(source: string): (() => void) | undefined {
    const ofSource = this.#bySource.get(source) ?? 0;
    if (this.#open >= this.#limits.connections || ofSource >= this.#limits.connections_per_source)
      return undefined;
    this.#open += 1;
    this.#bySource.set(source, ofSource + 1);
    let isGiven = false;
    return () => {
      if (isGiven) return;
      isGiven = true;
      this.#open -= 1;
      const left = (this.#bySource.get(source) ?? 1) - 1;
      if (left > 0) this.#bySource.set(source, left);
      else this.#bySource.delete(source);
    };
  }
}

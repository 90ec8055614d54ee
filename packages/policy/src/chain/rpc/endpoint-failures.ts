import type { ChainEvent } from '../chain-event.ts';
import type { RpcEndpoint } from './rpc-endpoint.ts';
import { ToldSeldom } from './told-seldom.ts';

/** Tells the operator which endpoints fail, and why. */
export class EndpointFailures {
  readonly #onEvent: (event: ChainEvent) => void;
  readonly #told = new WeakMap<RpcEndpoint, ToldSeldom>();

  constructor(onEvent: (event: ChainEvent) => void) {
    this.#onEvent = onEvent;
  }

  /** Run a step with one endpoint and tell when it fails. */
  async during<T>(endpoint: RpcEndpoint, step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      this.note(endpoint, error);
      throw error;
    }
  }

  note(endpoint: RpcEndpoint, error: unknown): void {
    const told = this.#told.get(endpoint) ?? new ToldSeldom();
    this.#told.set(endpoint, told);
    const times = told.count();
    if (times === undefined) return;
    const message = error instanceof Error ? error.message : String(error);
    this.#onEvent({ type: 'endpoint-failed', endpoint: endpoint.name, message, times });
  }
}

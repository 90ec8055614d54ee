import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

type Request = { readonly id: number; readonly method: string; readonly params?: readonly unknown[] };
/**
 * `result` instead of the truth; `refusal` for an error, also of what was passed on; `stall` for no answer; `drop` for a broken
 * connection, before or after it was passed on.
 */
export type Lie =
  | { readonly result: unknown }
  | { readonly refusal: string; readonly passes: boolean }
  | { readonly change: (result: never) => unknown }
  | 'stall'
  | 'drop'
  | 'pass-and-drop';

/** An endpoint before a real one, for tests: it passes on what it is asked, unless it lies. */
export class LyingEndpoint {
  lie: (request: Request) => Lie | undefined = () => undefined;
  readonly asked: string[] = [];
  url = '';
  readonly #server: Server;

  constructor(real: string) {
    const pass = async (request: Request): Promise<Record<string, unknown>> => {
      const headers = { 'content-type': 'application/json' };
      return (await (
        await fetch(real, { method: 'POST', headers, body: JSON.stringify(request) })
      ).json()) as Record<string, unknown>;
    };
    this.#server = createServer((incoming, response) => {
      const answer = async (): Promise<void> => {
        const request = JSON.parse(Buffer.concat(await incoming.toArray()).toString()) as Request;
        this.asked.push(request.method);
        const lie = this.lie(request);
        if (lie === 'stall') return;
        if (lie === 'pass-and-drop') await pass(request);
        if (lie === 'drop' || lie === 'pass-and-drop') {
          response.destroy();
          return;
        }
        const { id } = request;
        if (lie !== undefined && typeof lie === 'object' && 'refusal' in lie) {
          if (lie.passes) await pass(request);
          response.setHeader('content-type', 'application/json');
          response.end(
            JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32_000, message: lie.refusal } }),
          );
          return;
        }
        const truth =
          lie !== undefined && 'result' in lie
            ? { jsonrpc: '2.0', id, result: lie.result }
            : await pass(request);
        const told =
          lie !== undefined && 'change' in lie
            ? { ...truth, result: lie.change(truth['result'] as never) }
            : truth;
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(told));
      };
      answer().catch(() => response.destroy());
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  stop(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }
}

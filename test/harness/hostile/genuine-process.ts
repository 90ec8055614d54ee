/**
 * Genuine clients, in a process of their own: asks one thing after the other at a steady rate, whether or not what was
 * asked before has been answered, on kept connections and new ones in turn. Writes a line when it asks and one for
 * each answer. Ends with its input.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';

export type GenuinePlan = {
  readonly port: number;
  readonly isTls: boolean;
  readonly from: string;
  readonly perSecond: number;
  readonly requests: readonly {
    readonly method: string;
    readonly path: string;
    readonly body?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly identity?: { readonly cert: string; readonly key: string };
  }[];
};

/** `at` is when it was asked (`Date.now()`). */
export type GenuineRequest = { readonly at: number };
export type GenuineAnswer = GenuineRequest & { readonly ms: number; readonly isGood: boolean };

createInterface({ input: process.stdin }).once('line', (line) => {
  const plan = JSON.parse(line) as GenuinePlan;
  const { port, isTls, from, perSecond, requests } = plan;
  const agentOf = (index: number, keepAlive: boolean): HttpAgent | HttpsAgent => {
    const options = { keepAlive, localAddress: from, maxSockets: 4 };
    return isTls
      ? new HttpsAgent({
          ...options,
          rejectUnauthorized: false,
          maxCachedSessions: 0,
          ...requests[index]!.identity,
        })
      : new HttpAgent(options);
  };
  const kept = requests.map((_, index) => agentOf(index, true));
  const fresh = requests.map((_, index) => agentOf(index, false));
  let turn = 0;
  const ask = (): void => {
    const index = turn % requests.length;
    const isKept = Math.floor(turn / requests.length) % 2 === 0;
    turn += 1;
    const { method, path, body = '', headers } = requests[index]!;
    const at = Date.now();
    const started = performance.now();
    const request: GenuineRequest = { at };
    process.stdout.write(`${JSON.stringify(request)}\n`);
    const done = (isGood: boolean): void => {
      const answer: GenuineAnswer = { at, ms: performance.now() - started, isGood };
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    };
    const options = { host: '127.0.0.1', port, method, path, headers: { ...headers }, timeout: 5_000 };
    const agent = (isKept ? kept : fresh)[index]!;
    const call = (isTls ? httpsRequest : httpRequest)({ ...options, agent }, (response) => {
      response.resume();
      response.once('end', () => done((response.statusCode ?? 500) < 300));
    });
    call.once('timeout', () => call.destroy(new Error('late')));
    call.once('error', () => done(false));
    call.end(body);
  };
  setInterval(ask, 1_000 / perSecond);
});
process.stdin.once('end', () => process.exit(0));

import { Agent, request } from 'node:https';
import type { ClientIdentity } from './ask.ts';

export type KeptAnswer = {
  readonly status: number;
  /** Whether an earlier request had used the connection. */
  readonly reused: boolean;
  readonly json: Record<string, unknown>;
};

/** One connection for several calls, as a guest keeps it. */
export function keptConnection(
  port: number,
  client: ClientIdentity,
): { post(method: string, input: unknown): Promise<KeptAnswer>; close(): void } {
  const agent = new Agent({ ...client, keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
  return {
    post: (method, input) =>
      new Promise((resolve, reject) => {
        const target = { host: '127.0.0.1', port, path: `/prpc/${method}?json`, method: 'POST', agent };
        const call = request({ ...target, timeout: 20_000 }, (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            const json = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
            resolve({ status: response.statusCode ?? 0, reused: call.reusedSocket, json });
          });
        });
        call.on('error', reject);
        call.end(JSON.stringify(input));
      }),
    close: () => agent.destroy(),
  };
}

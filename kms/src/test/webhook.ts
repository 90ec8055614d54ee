import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export type WebhookAnswer = {
  readonly status?: number;
  readonly body?: unknown;
  readonly raw?: string;
  readonly delayMs?: number;
};
/** An answer, or what is answered to a body. */
type Rule = WebhookAnswer | ((body: string) => WebhookAnswer | undefined);
export type WebhookPolicy = { app?: Rule; kms?: Rule; info?: WebhookAnswer };

/** An auth API that says what it is told to say, and remembers what it was asked. */
export type Webhook = {
  readonly url: string;
  readonly asked: { method: string; path: string; body: string }[];
  policy: WebhookPolicy;
  close(): void;
};

const ALLOW = { body: { isAllowed: true, gatewayAppId: 'lab-gateway', reason: '' } };

export async function startWebhook(info: WebhookAnswer, allow: WebhookAnswer = ALLOW): Promise<Webhook> {
  const asked: Webhook['asked'] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const path = request.url ?? '';
      const question = Buffer.concat(chunks).toString();
      asked.push({ method: request.method ?? '', path, body: question });
      const { policy } = webhook;
      const rule =
        path === '/bootAuth/app' ? policy.app : path === '/bootAuth/kms' ? policy.kms : (policy.info ?? info);
      const answer = typeof rule === 'function' ? rule(question) : rule;
      const { status = 200, body, raw, delayMs } = answer ?? allow;
      const reply = (): void => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(raw ?? JSON.stringify(body));
      };
      if (delayMs === undefined) reply();
      else setTimeout(reply, delayMs).unref();
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const webhook: Webhook = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    policy: {},
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
  return webhook;
}

/** An auth API of the tests' own: allows everybody until it is told otherwise. */
import { type LoopbackServer, startLoopbackServer } from './loopback-server.ts';

/** `hang` never answers. */
export type WebhookAnswer =
  | {
      isAllowed: boolean;
      reason: string;
      gatewayAppId: string;
      keyEpoch?: number;
      minKeyEpoch?: number;
      keyRoot?: string;
      previousKeyRoots?: string[];
    }
  | 'hang';
type Ask = (boot: Record<string, string>) => WebhookAnswer | Promise<WebhookAnswer>;

export type PolicyWebhook = LoopbackServer & { app: Ask; kms: Ask };

export const ALLOW: WebhookAnswer = { isAllowed: true, reason: '', gatewayAppId: 'any' };
export const deny = (reason: string): WebhookAnswer => ({ isAllowed: false, reason, gatewayAppId: '' });

export async function startPolicyWebhook(): Promise<PolicyWebhook> {
  const server = await startLoopbackServer(async ({ path, body }, response) => {
    const answer =
      path === '/bootAuth/app'
        ? await webhook.app(JSON.parse(body))
        : path === '/bootAuth/kms'
          ? await webhook.kms(JSON.parse(body))
          : { status: 'ok', kmsContractAddr: '0x', gatewayAppId: 'any', chainId: 1, appImplementation: '0x' };
    if (answer === 'hang') return;
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  });
  const webhook: PolicyWebhook = { ...server, app: () => ALLOW, kms: () => ALLOW };
  return webhook;
}

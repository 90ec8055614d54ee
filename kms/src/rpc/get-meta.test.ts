import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import type { WebhookAnswer } from '../test/webhook.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterAll(() => lab.close());

// The original fails then (docs/protocol/kms.md section 5.8), which makes GetMeta useless to those who ask whether it
// lives.
test.each<[string, WebhookAnswer]>([
  ['an error', { status: 500, raw: 'boom' }],
  ['no JSON', { raw: '<html>' }],
  ['a chain id in quotes', { body: { status: '', kmsContractAddr: '', gatewayAppId: '', chainId: '1' } }],
  ['too late', { delayMs: 4_000 }],
])(
  'answers when the auth API answers %s, and counts that',
  async (_, info) => {
    const kms = await lab.start();
    lab.webhook.policy = { info };
    const { status, json } = await call(kms.main.port, 'GetMeta');
    expect(status).toBe(200);
    expect(json).toMatchObject({
      gateway_app_id: null,
      kms_contract_address: null,
      chain_id: null,
      app_auth_implementation: null,
      is_dev: false,
    });
    expect(json['k256_pubkey']).toMatch(/^[0-9a-f]{66}$/);
    const metrics = await ask(kms.main.port, '/metrics', { method: 'GET' });
    expect(metrics.body.toString()).toMatch(/^dstack_kms_policy_info_failures_total 1$/m);

    lab.webhook.policy = {};
    const gateway = async (): Promise<unknown> =>
      (await call(kms.main.port, 'GetMeta')).json['gateway_app_id'];
    await expect.poll(gateway, { timeout: 8_000, interval: 200 }).toBe('any');
    await kms.close();
  },
  20_000,
);

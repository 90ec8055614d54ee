import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { agentOf } from '../test/simulated-guest.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterAll(() => lab.close());

test('a KMS that can no longer show evidence of itself is not ready, though it remembers who it is', async () => {
  const working = agentOf(lab.guest());
  let down = false;
  const attest = (reportData: Uint8Array): Promise<Uint8Array> =>
    down ? Promise.reject(new Error('the agent is gone')) : working.attest(reportData);
  const kms = await lab.start({ options: { agent: { ...working, attest } } });
  const client = lab.client(lab.guest());
  expect((await call(kms.main.port, 'GetAppKey', { api_version: 1 }, { client })).status).toBe(200);
  down = true;
  const ready = await ask(kms.main.port, '/ready', { method: 'GET' });
  expect([ready.status, JSON.parse(ready.body.toString())]).toMatchObject([
    503,
    { ready: false, keys: true, policy: true, evidence: false },
  ]);
  expect((await ask(kms.main.port, '/health', { method: 'GET' })).status).toBe(200);
});

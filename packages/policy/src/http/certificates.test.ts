/** Whose certificate is out of its time, or of another place, is asked nothing. */
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { facts } from '../test/facts.ts';
import { type WebIdentity, webAuthority } from '../test-support/web-certificate.ts';
import { webhookPolicy } from '../webhook/webhook-policy.ts';

const HOUR = 3_600;
const authority = webAuthority();
const expired = webAuthority({ from: -2 * HOUR, to: -HOUR });

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function asked(identity: WebIdentity, ca: string) {
  let questions = 0;
  const server = createServer({ key: identity.key, cert: identity.cert }, (request, response) => {
    questions += 1;
    request.resume();
    response.end(JSON.stringify({ isAllowed: true, gatewayAppId: '', reason: '' }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const policy = webhookPolicy({ url: `https://127.0.0.1:${port}`, ca, timeoutMs: 5_000 });
  open.push({
    close: () => {
      policy.close?.();
      server.closeAllConnections();
      server.close();
    },
  });
  return { server, policy, questions: () => questions };
}

test('a certificate of its time and place is believed', async () => {
  const { policy, questions } = await asked(authority.issue(), authority.cert);
  expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true });
  expect(questions()).toBe(1);
});

test.each<[string, WebIdentity, string]>([
  ['an expired certificate', authority.issue({ from: -2 * HOUR, to: -HOUR }), authority.cert],
  ['one that expired a moment ago', authority.issue({ from: -HOUR, to: -2 }), authority.cert],
  ['one of tomorrow', authority.issue({ from: HOUR, to: 2 * HOUR }), authority.cert],
  ['one of an authority that expired', expired.issue(), expired.cert],
  ['one of another address', authority.issue({ address: '127.0.0.2' }), authority.cert],
  ['one of another authority', webAuthority().issue(), authority.cert],
])('%s: nothing is asked, and nothing allowed', async (_, identity, ca) => {
  const { policy, questions } = await asked(identity, ca);
  await expect(policy.authorize('app', facts())).rejects.toMatchObject({ code: 'backend-unreachable' });
  expect(questions()).toBe(0);
});

test('a certificate that expires while the service runs is refused at the next connection', async () => {
  const { server, policy, questions } = await asked(authority.issue(), authority.cert);
  expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true });
  const { key, cert } = authority.issue({ from: -2 * HOUR, to: -HOUR });
  server.setSecureContext({ key, cert });
  server.closeAllConnections();
  await expect(policy.authorize('app', facts())).rejects.toMatchObject({ code: 'backend-unreachable' });
  expect(questions()).toBe(1);
});

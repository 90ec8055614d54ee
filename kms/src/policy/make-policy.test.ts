/** An auth API behind TLS: whose certificate is not good gets no say, and nobody a key. */
import { writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type WebIdentity, webAuthority } from '@dstack-cloud/policy/test-support/web-certificate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';

const HOUR = 3_600;
const authority = webAuthority();

let lab: Lab;
const servers: Server[] = [];
beforeAll(async () => {
  lab = await openLab();
});
afterAll(async () => {
  await lab.close();
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

async function release(identity: WebIdentity) {
  const questions: string[] = [];
  const server = createServer({ key: identity.key, cert: identity.cert }, (request, response) => {
    questions.push(request.url ?? '');
    request.resume();
    response.end(JSON.stringify({ isAllowed: true, gatewayAppId: '', reason: '' }));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const caCert = join(lab.directory, 'auth-api.crt');
  writeFileSync(caCert, authority.cert);
  const kms = await lab.start({
    core: { auth_api: { type: 'webhook', webhook: { url, ca_cert: caCert } } },
  });
  const client = lab.client(lab.guest());
  const answer = await call(kms.main.port, 'GetAppKey', { api_version: 1, vm_config: '' }, { client });
  return { ...answer, questions };
}

describe('an auth API with', () => {
  test('a good certificate is asked', async () => {
    const { status, questions } = await release(authority.issue());
    expect([status, questions.toSorted()]).toEqual([200, ['/bootAuth/app', '/bootAuth/kms']]);
  });
  test.each<[string, WebIdentity]>([
    ['an expired certificate', authority.issue({ from: -2 * HOUR, to: -HOUR })],
    ['a certificate of later', authority.issue({ from: HOUR, to: 2 * HOUR })],
    ['a certificate of another address', authority.issue({ address: '10.0.0.1' })],
    ['a certificate of another authority', webAuthority().issue()],
  ])('%s is asked nothing, and no key is released', async (_, identity) => {
    const { status, json, questions } = await release(identity);
    expect([status, json['code'], questions]).toEqual([400, 'UNAVAILABLE', []]);
    expect(json).not.toHaveProperty('disk_crypt_key');
  });
});

import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPrpcHandler, DstackGuest, implement } from '@dstack-cloud/prpc';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../config/load-config.ts';
import { certificateFor } from '../test/lab.ts';
import { agentCredentials, agentInfo, stateSecret } from './agent-credentials.ts';

const folder = mkdtempSync(join(tmpdir(), 'gateway-agent-'));
const socket = join(folder, 'agent.sock');
let withCa = true;

const handler = createPrpcHandler<undefined>({
  mounts: [
    {
      path: '/',
      services: [
        implement(DstackGuest)<undefined>({
          GetTlsKey: ({ subject, altNames, usageServerAuth, usageClientAuth }) => {
            expect([subject, usageServerAuth, usageClientAuth]).toEqual(['dstack-gateway', true, false]);
            const leaf = certificateFor(altNames[0]!);
            const chain = [leaf.certChain, certificateFor('root').certChain];
            return { key: leaf.key, certificateChain: withCa ? chain : chain.slice(0, 1) };
          },
          GetKey: ({ path, purpose }) => {
            expect([path, purpose]).toEqual(['gateway/state/v1', 'seal']);
            return { key: new Uint8Array(withCa ? 32 : 8).fill(9), signatureChain: [] };
          },
          Info: () => ({ appName: 'gateway', tcbInfo: '{}' }),
        }),
      ],
    },
  ],
});
const server = createServer(handler);

beforeAll(async () => {
  server.listen(socket);
  await once(server, 'listening');
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

describe('the certificate that guests see', () => {
  it('is one of the guest agent, with the CA of the key service', async () => {
    const { certChain, clientCa, key } = await agentCredentials(socket, 'gw1.example.com');
    expect(new X509Certificate(certChain).checkHost('gw1.example.com')).toBe('gw1.example.com');
    expect(new X509Certificate(clientCa).subject).toBe('CN=root');
    expect(key).toContain('PRIVATE KEY');
    expect(JSON.parse(await agentInfo(socket))).toMatchObject({ app_name: 'gateway' });
  });

  it('has the secret of the state beside it, and none that is too short', async () => {
    expect(await stateSecret(socket)).toEqual(new Uint8Array(32).fill(9));
    withCa = false;
    await expect(stateSecret(socket)).rejects.toThrow(/a key of 8 bytes/);
    withCa = true;
    await expect(stateSecret(join(folder, 'nobody'))).rejects.toThrow(/gives no key for the state/);
  });

  it('is none without a CA, or without an agent', async () => {
    withCa = false;
    await expect(agentCredentials(socket, 'gw1.example.com')).rejects.toMatchObject({
      code: 'config-unreadable',
    });
    await expect(agentCredentials(join(folder, 'none'), 'gw1.example.com')).rejects.toThrow(
      /gives no certificate/,
    );
  });

  it.each([
    ['', /tls\.key, certs, mutual\.ca_certs: are needed/],
    ['[core]\nrpc_domain = "gw1.example.com"', /core\.agent_socket: is needed/],
    ['[core]\nrpc_domain = "gw1.example.com"\nagent_socket = "/a"\n[tls]\nkey = "k"', /remove tls/],
    ['[tls]\nkey = "k"\ncerts = "c"', /tls\.key, certs, mutual\.ca_certs: are needed/],
  ])('is configured in one way: not by %j', (text, why) => {
    const files = '[core.proxy]\ncert_chain = "c"\ncert_key = "k"';
    expect(() => parseConfig(`${text}\n${files}`, 'gateway.toml')).toThrow(why);
  });
});

/** A new KMS that copies the root of another through a network which an attacker owns. */
import { readdirSync } from 'node:fs';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import { forgedIdentity } from '../harness/forged-certificate.ts';
import { type KmsHost, type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';

let lab: KmsLab;
let source: KmsProcess;
let attacker: KmsProcess;
beforeAll(async () => {
  lab = await startKmsLab();
  source = await (await lab.host('source')).serve();
  attacker = await (await lab.host('attacker')).serve();
}, 120_000);
afterAll(async () => lab?.stop());

const portOf = (url: string) => Number(new URL(url).port);
const k256Of = async (kms: KmsProcess) =>
  JSON.parse((await callKms(kms.url, 'GetMeta')).body).k256_pubkey as string;

/** Passes bytes on; the first `honest` connections go to the source, the later ones to `evilPort`. */
async function relay(
  honest: number,
  evilPort: number,
): Promise<{ url: string; count(): number; server: Server }> {
  let count = 0;
  const server = createServer((socket) => {
    count += 1;
    const target = connect(count <= honest ? portOf(source.url) : evilPort, '127.0.0.1');
    for (const end of [socket, target]) end.on('error', () => end.destroy());
    socket.on('close', () => target.destroy());
    target.on('close', () => socket.destroy());
    socket.pipe(target).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `https://127.0.0.1:${port}`, count: () => count, server };
}

/** A server without evidence that hands out root keys of its own to everybody. */
async function unattestedServer(): Promise<TlsServer> {
  const identity = await forgedIdentity(generateP256Key(), []);
  const answer = JSON.stringify({
    temp_ca_key: p256KeyPem(generateP256Key()),
    keys: [{ ca_key: p256KeyPem(generateP256Key()), k256_key: '11'.repeat(32) }],
  });
  const server = createTlsServer(identity, (_, response) => response.end(answer));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

let count = 0;
async function replica(): Promise<{ host: KmsHost; kms: KmsProcess }> {
  count += 1;
  const host = await lab.host(`replica-${count}`, { core: { onboard: { auto_bootstrap_domain: '' } } });
  const kms = host.run();
  await kms.until('onboarding listener started');
  return { host, kms };
}

async function onboard(kms: KmsProcess, url: string): Promise<{ status: number; body: string }> {
  const answer = await fetch(`${kms.onboardUrl}/prpc/Onboard.Onboard?json`, {
    method: 'POST',
    body: JSON.stringify({ source_url: url, domain: '127.0.0.1' }),
    signal: AbortSignal.timeout(20_000),
  });
  return { status: answer.status, body: await answer.text() };
}

const rootFiles = ({ certDir }: KmsHost): string[] => {
  try {
    return readdirSync(certDir, { recursive: true })
      .map(String)
      .filter((name) => /\.key$/.test(name));
  } catch {
    return [];
  }
};

describe('onboarding', () => {
  test('onboard-relay: the first connection passed on, the second answered by an attacker, gives no keys', async () => {
    const unattested = await unattestedServer();
    try {
      // Without evidence, and with the evidence of a KMS that the policy allows too: it is not the one that was verified.
      const evilPorts = [(unattested.address() as AddressInfo).port, portOf(attacker.url)];
      // The source is looked at over one connection or two; the keys come over the last.
      for (const [honest, evilPort] of [1, 2].flatMap((count) =>
        evilPorts.map((port) => [count, port] as const),
      )) {
        const between = await relay(honest, evilPort);
        const { host, kms } = await replica();
        const { status, body } = await onboard(kms, between.url);
        expect(status, body).toBe(400);
        expect(between.count()).toBeGreaterThan(honest);
        expect(rootFiles(host)).toEqual([]);
        between.server.close();
        // The attempt spoilt nothing.
        const second = await onboard(kms, source.url);
        expect(JSON.parse(second.body).k256_pubkey).toBe(await k256Of(source));
        await kms.stop('SIGKILL');
      }
    } finally {
      unattested.close();
    }
  });

  test('onboard-passive-relay: bytes passed on unchanged are the same as no relay', async () => {
    const between = await relay(100, 9);
    const { kms } = await replica();
    const { status, body } = await onboard(kms, between.url);
    expect(status, body).toBe(200);
    expect(JSON.parse(body).k256_pubkey).toBe(await k256Of(source));
    between.server.close();
    await kms.stop('SIGKILL');
  });
});

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { type Duplex, PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { afterEach, describe, expect, it } from 'vitest';
import { certificatePem, issuerOf } from '../certificate/issue-certificate.ts';
import { appCa, appLeaf, rpcCertificate } from '../certificate/profiles.ts';
import { RaTlsError } from '../errors.ts';
import {
  attestationFor,
  bindingOnly,
  hollowAttestation,
  now,
  type TestKms,
  testKms,
} from '../testing/samples.ts';
import { closeAll, closeLater, get, startServer } from '../testing/servers.ts';
import { raTlsAgent } from './agent.ts';
import type { PeerVerifier } from './peer.ts';

afterEach(closeAll);

describe('the agent', () => {
  /** Asks a server that shows `certificate` under the rules. */
  async function ask(
    kms: TestKms,
    options: Omit<Parameters<typeof raTlsAgent>[0], 'ca'> & { ca?: string },
  ): Promise<string> {
    const running = await startServer(bindingOnly, kms);
    const agent = raTlsAgent(options);
    closeLater(() => agent.destroy());
    return get(running.port, agent);
  }

  const code = (expected: string): unknown => expect.objectContaining({ code: expected });

  it('takes a KMS whose evidence verifies', async () => {
    const kms = testKms({ attested: true });
    const rules = { evidence: 'required' as const, verify: bindingOnly };
    expect(await ask(kms, { ca: kms.rootPem, verifyServer: rules })).toBe('200 anonymous');
    expect(await ask(kms, { verifyServer: rules })).toBe('200 anonymous');
  });

  it('an application certificate of the same root is no KMS', async () => {
    const kms = testKms();
    const config = {
      subject: 'kms',
      subjectAltNames: ['127.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: true,
      extAppInfo: false,
    };
    const attestation = attestationFor(kms.rpcKey);
    const app = certificatePem(
      appLeaf({ config, issuer: kms.root, spki: kms.rpcKey.spki, attestation, now }),
    );
    const impostor = { ...kms, rpcPem: app };
    const request = ask(impostor, { ca: kms.rootPem, verifyServer: { verify: bindingOnly } });
    await expect(request).rejects.toEqual(code('wrong-usage'));
    const first = ask(impostor, { verifyServer: 'dangerously-unverified' });
    await expect(first).rejects.toEqual(code('wrong-usage'));
    expect(await ask(kms, { verifyServer: 'dangerously-unverified' })).toBe('200 anonymous');
  });

  it('a certificate for KMSs from the CA of an application is none', async () => {
    const kms = testKms();
    const key = generateP256Key();
    const der = appCa({ issuer: kms.root, key, appId: new Uint8Array(20), now });
    const leaf = rpcCertificate({
      issuer: issuerOf(der, key),
      domain: '127.0.0.1',
      spki: kms.rpcKey.spki,
      attestation: attestationFor(kms.rpcKey),
      now,
    });
    const impostor = { ...kms, rpcPem: `${certificatePem(leaf)}${certificatePem(der)}` };
    const request = ask(impostor, { ca: kms.rootPem, verifyServer: { verify: bindingOnly } });
    await expect(request).rejects.toEqual(code('wrong-usage'));
    const other = ask(impostor, { ca: kms.rootPem, verifyServer: { usage: null, verify: bindingOnly } });
    expect(await other).toBe('200 anonymous');
  });

  it.each<[string, string, (kms: TestKms) => Parameters<typeof raTlsAgent>[0]]>([
    ['another root', 'connection', () => ({ ca: testKms().rootPem, verifyServer: { verify: bindingOnly } })],
    [
      'no evidence where it is required',
      'no-attestation',
      (kms) => ({ ca: kms.rootPem, verifyServer: { evidence: 'required', verify: bindingOnly } }),
    ],
    [
      'another key than the pinned one',
      'pin-mismatch',
      (kms) => ({
        ca: kms.rootPem,
        verifyServer: { evidence: 'ignore', pinnedSpki: generateP256Key().spki, verify: bindingOnly },
      }),
    ],
    [
      'a stranger, known by its pin alone',
      'pin-mismatch',
      () => ({ verifyServer: { evidence: 'ignore', pinnedSpki: generateP256Key().spki } }),
    ],
  ])('refuses %s', async (_, expected, options) => {
    const kms = testKms();
    await expect(ask(kms, options(kms))).rejects.toEqual(code(expected));
  });

  it('verifies evidence that is there, though it is not required', async () => {
    const kms = testKms();
    const bad = rpcCertificate({
      domain: '127.0.0.1',
      spki: kms.rpcKey.spki,
      issuer: kms.root,
      now,
      attestation: hollowAttestation(ratlsReportData(kms.tempKey.spki)),
    });
    const request = ask(
      { ...kms, rpcPem: certificatePem(bad) },
      { ca: kms.rootPem, verifyServer: { verify: bindingOnly } },
    );
    await expect(request).rejects.toThrow('report data mismatch');
  });

  it('checks the host name, but takes an address written as dNSName', async () => {
    const kms = testKms();
    const named = rpcCertificate({ domain: 'kms.example', spki: kms.rpcKey.spki, issuer: kms.root, now });
    const request = ask(
      { ...kms, rpcPem: certificatePem(named) },
      { ca: kms.rootPem, verifyServer: { verify: bindingOnly } },
    );
    await expect(request).rejects.toThrow(/altnames/);
  });

  it('lets the caller refuse, and asks before anything is sent', async () => {
    const kms = testKms({ attested: true });
    const onServer = (): never => {
      throw new RaTlsError('pin-mismatch', 'not this one');
    };
    await expect(
      ask(kms, { ca: kms.rootPem, verifyServer: { verify: bindingOnly, onServer } }),
    ).rejects.toThrow('not this one');
  });

  it('gives up on a server that says nothing', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    closeLater(() => silent.close());
    const agent = raTlsAgent({
      ca: testKms().rootPem,
      verifyServer: { verify: bindingOnly },
      connectTimeoutMs: 100,
    });
    await expect(get((silent.address() as AddressInfo).port, agent)).rejects.toEqual(code('connection'));
    agent.destroy();
  });

  it('gives up on a stream that is not opened, and closes one that comes late', async () => {
    let open = (_: Duplex): void => undefined;
    const late = new PassThrough();
    const dial = (): Promise<Duplex> =>
      new Promise((resolve) => {
        open = resolve;
      });
    const agent = raTlsAgent({
      ca: testKms().rootPem,
      verifyServer: { verify: bindingOnly },
      connectTimeoutMs: 100,
      dial,
    });
    await expect(get(1, agent)).rejects.toThrow('no stream within 100 ms');
    open(late);
    await once(late, 'close');
    agent.destroy();
  }, 5000);

  describe('when judging the server took longer than a server waits', () => {
    /** A server that closes a connection without a request after 300 ms, and a judge that takes 600 ms. */
    async function slowly(second?: TestKms): Promise<{ answer: Promise<string>; judged: () => number }> {
      const kms = testKms({ attested: true });
      const { port, server } = await startServer(bindingOnly, kms);
      let connections = 0;
      server.on('secureConnection', (socket) => {
        connections += 1;
        if (connections === 1 && second !== undefined)
          server.setSecureContext({ key: p256KeyPem(second.rpcKey), cert: second.rpcPem });
        const idle = setTimeout(() => socket.destroy(), 300);
        socket.once('data', () => clearTimeout(idle));
      });
      let judged = 0;
      const verify: PeerVerifier = async (certificate) => {
        judged += 1;
        if (judged === 1) await sleep(600);
        return await bindingOnly(certificate);
      };
      const agent = raTlsAgent({ verifyServer: { evidence: 'required', verify }, reconnectAfterMs: 200 });
      closeLater(() => agent.destroy());
      return { answer: get(port, agent), judged: () => judged };
    }

    it('asks over a new connection to the server that was judged', async () => {
      const { answer, judged } = await slowly();
      expect(await answer).toBe('200 anonymous');
      expect(judged()).toBe(1);
    });

    it('judges another certificate that it meets there, too', async () => {
      const { answer, judged } = await slowly(testKms({ attested: true }));
      expect(await answer).toBe('200 anonymous');
      expect(judged()).toBe(2);
      const kms = testKms();
      const bare = await slowly(kms);
      await expect(bare.answer).rejects.toEqual(code('no-attestation'));
    });
  });

  it('refuses rules that would trust anybody', () => {
    const ca = testKms().rootPem;
    for (const options of [
      { verifyServer: {} },
      { ca, verifyServer: {} },
      { ca, verifyServer: { evidence: 'required' } },
      { verifyServer: { verify: bindingOnly } },
      { verifyServer: { evidence: 'ignore' } },
      { ca, verifyServer: 'dangerously-unverified' },
    ] as const) {
      expect(() => raTlsAgent(options)).toThrow(TypeError);
    }
  });
});

import { X509Certificate } from 'node:crypto';
import { parseAppCompose } from '@dstack-cloud/app';
import { replayDigests, replayRuntimeEvents } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import { certificatePem, localRootCa, tempCa } from '@dstack-cloud/ra-tls';
import { describeWithFixtures, fixtureText } from '@dstack-cloud/test/fixtures';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { keysWithoutProvider } from '../boot/seed-keys.ts';
import { parseGuestConfig } from '../config/guest-config.ts';
import { type FakeKms, startFakeKms } from '../test/fake-kms.ts';
import { SoftwareDevice } from '../test/software-device.ts';
import type { Agent } from './agent.ts';
import { localSigner } from './certificate-signer.ts';
import { emitEvent } from './emit-event.ts';
import { info } from './info.ts';
import { kmsSigner } from './kms-signer.ts';
import { LocalEvidence } from './local-evidence.ts';
import { getQuote } from './quote.ts';
import { freshTlsKey } from './tls-key.ts';

const now = Math.floor(Date.now() / 1000);
const REQUEST = {
  subject: 'example.com',
  altNames: ['localhost', '10.0.0.1'],
  usageRaTls: false,
  usageServerAuth: true,
  usageClientAuth: false,
  withAppInfo: false,
};

let device: SoftwareDevice;
let agent: Agent;
let quotes = 0;

async function makeAgent(config: object = {}): Promise<Agent> {
  device = new SoftwareDevice(() => JSON.stringify({ os_image_hash: '77'.repeat(32) }));
  await device.emitEvent({ event: 'app-id', payload: new Uint8Array(20).fill(1) });
  await device.emitEvent({ event: 'system-ready', payload: new Uint8Array(0) });
  quotes = 0;
  const attest = device.attest.bind(device);
  device.attest = (reportData) => {
    quotes++;
    return attest(reportData);
  };
  const keys = await keysWithoutProvider(device, now);
  const composeText = fixtureText('simulator/app-compose.json');
  const local = new LocalEvidence(device, composeText);
  const { keyProvider } = keys;
  const signer = localSigner(
    keys.caCert,
    keyProvider.kind === 'none' ? keyProvider.key : '',
    local,
    () => now,
  );
  quotes = 0;
  return {
    config: parseGuestConfig(JSON.stringify({ root: '/nowhere', ...config }), '/'),
    keys,
    compose: parseAppCompose(composeText),
    composeText,
    vmConfig: '{}',
    device,
    fixture: false,
    local,
    signer,
    demoCertificate: { current: () => '' },
    log: pino({ level: 'silent' }),
    now: () => now,
  };
}

describeWithFixtures('the agent over a device', 'simulator/attestation.bin', () => {
  const opened: FakeKms[] = [];
  beforeEach(async () => {
    agent = await makeAgent();
  });
  afterEach(() => {
    for (const kms of opened.splice(0)) kms.close();
  });

  it('GetQuote: boot payloads are gone, runtime events replay to RTMR3', async () => {
    const { eventLog } = await getQuote(agent, new Uint8Array(64));
    const events = JSON.parse(eventLog) as { imr: number; digest: string; event_payload: string }[];
    expect(
      events.filter(
        ({ imr, event_payload }) => imr < 3 && !['', toHex(utf8('ACPI DATA'))].includes(event_payload),
      ),
    ).toEqual([]);
    expect(events.every(({ digest }) => digest.length === 96)).toBe(true);
    const runtime = events.filter(({ imr }) => imr === 3).map(({ digest }) => digest);
    expect(runtime).toHaveLength(device.emitted.length);
    expect(
      toHex(
        replayDigests(
          runtime.map((digest) => fromHex(digest)),
          'sha384',
        ),
      ),
    ).toBe(toHex(replayRuntimeEvents(device.emitted, 'sha384')));
  });

  it('Info makes one quote, and another one after an event', async () => {
    const before = await info(agent, 'inside');
    await info(agent, 'inside');
    expect(quotes).toBe(1);
    expect(toHex(before.osImageHash)).toBe('77'.repeat(32));
    await emitEvent(agent, 'mine', utf8('x'));
    const after = await info(agent, 'inside');
    expect(quotes).toBe(2);
    expect(toHex(after.mrAggregated)).not.toBe(toHex(before.mrAggregated));
  });

  it('Info of a device that fails is a 503, and the next call tries again', async () => {
    const attest = device.attest;
    device.attest = () => Promise.reject(new Error('busy'));
    await expect(info(agent, 'inside')).rejects.toMatchObject({
      status: 503,
      message: 'Failed to get local attestation: busy',
    });
    device.attest = attest;
    await expect(info(agent, 'inside')).resolves.toBeDefined();
  });

  it.each(['system-ready', 'app-id', 'gpu-attestation', '', 'x'.repeat(129)])(
    'EmitEvent refuses the name %j',
    async (name) => {
      await expect(emitEvent(agent, name, new Uint8Array(0))).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      expect(device.emitted).toHaveLength(2);
    },
  );

  it('EmitEvent refuses large payloads, and everything when switched off', async () => {
    await expect(emitEvent(agent, 'a', new Uint8Array(65537))).rejects.toMatchObject({ status: 400 });
    await emitEvent(agent, 'a', new Uint8Array(65536));
    agent = await makeAgent({ allow_app_events: false });
    await expect(emitEvent(agent, 'a', new Uint8Array(0))).rejects.toThrow(/switched off/);
  });

  it('GetTlsKey without evidence asks the device for none', async () => {
    const { certificateChain } = await freshTlsKey(agent, REQUEST);
    expect(quotes).toBe(0);
    expect(new X509Certificate(certificateChain[0] ?? '').subjectAltName).toBe(
      'DNS:localhost, IP Address:10.0.0.1',
    );
    await freshTlsKey(agent, { ...REQUEST, usageRaTls: true });
    expect(quotes).toBe(1);
  });

  it('GetTlsKey through the KMS: attested, over a kept connection, trusting the stored root alone', async () => {
    const kms = await startFakeKms();
    opened.push(kms);
    const tempKey = generateP256Key();
    const provider = {
      kind: 'kms',
      url: `${kms.url}/prpc`,
      pubkey: kms.rootSpki,
      tmpCaKey: p256KeyPem(tempKey),
      tmpCaCert: certificatePem(tempCa({ key: tempKey, now })),
    } as const;
    const options = {
      provider,
      device,
      vmConfig: '{}',
      verify: () => Promise.reject(new Error('none')),
      now: () => now,
    };
    const signer = kmsSigner({ ...options, caCert: kms.rootPem, evidence: 'if-present' });
    const through = { ...agent, signer };
    const chain = (await freshTlsKey(through, REQUEST)).certificateChain;
    await freshTlsKey(through, REQUEST);
    expect(new X509Certificate(chain[0] ?? '').verify(new X509Certificate(kms.rootPem).publicKey)).toBe(true);
    expect(kms.calls).toEqual(['SignCert attested', 'SignCert attested']);
    signer.close();
    const another = certificatePem(localRootCa({ key: generateP256Key(), now }));
    const wrongRoot = kmsSigner({ ...options, caCert: another, evidence: 'if-present' });
    await expect(freshTlsKey({ ...agent, signer: wrongRoot }, REQUEST)).rejects.toThrow(
      /Failed to sign the CSR/,
    );
    const noEvidence = kmsSigner({ ...options, caCert: kms.rootPem, evidence: 'required' });
    await expect(freshTlsKey({ ...agent, signer: noEvidence }, REQUEST)).rejects.toThrow(/attestation/);
    expect(kms.calls).toHaveLength(2);
  });

  it('a certificate request that the KMS refuses ends no other one', async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const arrived = new Set<string>();
    const kms = await startFakeKms({
      onSign: async (subject) => {
        arrived.add(subject);
        if (subject.startsWith('slow')) await held;
        if (subject === 'refused') throw new RpcError('No certificate for you');
      },
    });
    opened.push(kms);
    const tempKey = generateP256Key();
    const signer = kmsSigner({
      provider: {
        kind: 'kms',
        url: `${kms.url}/prpc`,
        pubkey: kms.rootSpki,
        tmpCaKey: p256KeyPem(tempKey),
        tmpCaCert: certificatePem(tempCa({ key: tempKey, now })),
      },
      caCert: kms.rootPem,
      device,
      vmConfig: '{}',
      verify: () => Promise.reject(new Error('none')),
      evidence: 'if-present',
      now: () => now,
    });
    const request = (subject: string) => freshTlsKey({ ...agent, signer }, { ...REQUEST, subject });
    const slow = Promise.all([request('slow-1'), request('slow-2')]);
    await expect.poll(() => arrived.size).toBe(2);
    for (let i = 0; i < 3; i += 1) await expect(request('refused')).rejects.toThrow('No certificate for you');
    // And none ends those that come after it, on the next connection.
    await request('after');
    release();
    for (const { certificateChain } of await slow) expect(certificateChain).toHaveLength(2);
    signer.close();
  });

  it.each([
    { altNames: ['ü'] },
    { subject: 'x'.repeat(1025) },
    { subject: 'a\nb' },
    { altNames: Array(101).fill('a') as string[] },
  ])('a certificate that cannot be had (%#) costs no quote', async (change) => {
    const wanted = { ...REQUEST, usageRaTls: true, ...change };
    await expect(freshTlsKey(agent, wanted)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(quotes).toBe(0);
  });

  it.each([
    [{ notBefore: 6n, notAfter: 5n }, 'not_before must be earlier than not_after'],
    [{ notAfter: 253_402_300_800n }, 'A certificate cannot carry a time after the year 9999'],
    [{ notAfter: 2n ** 64n - 1n }, 'A certificate cannot carry a time after the year 9999'],
    [{ altNames: ['ü'] }, /Failed to sign the CSR/],
  ])('GetTlsKey refuses %o', async (change, message) => {
    await expect(freshTlsKey(agent, { ...REQUEST, ...change })).rejects.toThrow(message);
  });

  it('has no key in its answers to outsiders', async () => {
    const outside = JSON.stringify(await info(agent, 'outside'), (_, value: unknown) =>
      value instanceof Uint8Array ? toHex(value) : value,
    );
    for (const secret of [agent.keys.k256Key, agent.keys.diskCryptKey])
      expect(outside).not.toContain(toHex(secret));
  });
});

import { X509Certificate } from 'node:crypto';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { DstackClient, TappdClient } from '@phala/dstack-sdk';
import { toViemAccountSecure } from '@phala/dstack-sdk/viem';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunningAgent, startAgent } from './start-agent.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describeWithFixtures('the npm SDK, unchanged, against the guest agent', 'simulator/attestation.bin', () => {
  let agent: RunningAgent;
  let client: DstackClient;
  let tappd: TappdClient;
  beforeAll(async () => {
    agent = await startAgent();
    client = new DstackClient(agent.dstackSocket);
    tappd = new TappdClient(agent.tappdSocket);
  });
  afterAll(() => agent.stop());

  it('getKey: the recorded key, the same for both names of its algorithm', async () => {
    const key = await client.getKey('/', 'test');
    expect(hex(key.key)).toBe('f6c1ed94488394d78e0a4e5ab75d62e9f085d73b0b555d0614fb90ca13d9464d');
    expect(key.signature_chain).toHaveLength(2);
    expect(hex((await client.getKey('/', 'test', 'k256')).key)).toBe(hex(key.key));
    expect((await client.getKey('/', 'test', 'ed25519')).key).toHaveLength(32);
    await expect(client.getKey('/', 'test', 'secp256k1_prehashed' as 'secp256k1')).rejects.toThrow();
  });

  it('an Ethereum account of a key', async () => {
    const account = toViemAccountSecure(await client.getKey('wallet', 'mainnet'));
    expect(account.address).toMatch(/^0x[0-9a-fA-F]{40}$/);
    expect(account.address).not.toBe(toViemAccountSecure(await client.getKey('other', 'mainnet')).address);
  });

  it('getQuote: report data in its place, the log replays to the registers', async () => {
    const quote = await client.getQuote('test');
    const bytes = Buffer.from(quote.quote.replace(/^0x/, ''), 'hex');
    expect(bytes.subarray(568, 632).toString('utf8').replace(/\0+$/, '')).toBe('test');
    const { tcb_info } = await client.info();
    const replayed = quote.replayRtmrs();
    expect([replayed[0], replayed[1], replayed[2], replayed[3]]).toEqual([
      tcb_info.rtmr0,
      tcb_info.rtmr1,
      tcb_info.rtmr2,
      tcb_info.rtmr3,
    ]);
    await expect(client.getQuote('x'.repeat(65))).rejects.toThrow();
  });

  it('info, version and isReachable', async () => {
    const info = await client.info();
    expect(info.app_id).toBe('5bb4ff9a3837357f19dc176407a5709c62eb6c56');
    expect(info.tcb_info.event_log).toHaveLength(33);
    expect(info.app_cert).toContain('BEGIN CERTIFICATE');
    await expect(client.isReachable()).resolves.toBe(true);
    await expect(tappd.isReachable()).resolves.toBe(true);
  });

  it('getTlsKey: names, usages, a key for each call', async () => {
    const options = { subject: 'example.com', altNames: ['localhost', '127.0.0.1'], usageRaTls: true };
    const made = await client.getTlsKey({ ...options, usageServerAuth: true, usageClientAuth: true });
    const leaf = new X509Certificate(made.certificate_chain[0] ?? '');
    expect(leaf.subject).toBe('CN=example.com');
    expect(leaf.subjectAltName).toBe('DNS:localhost, IP Address:127.0.0.1');
    expect(made.asUint8Array().length).toBeGreaterThan(32);
    expect((await client.getTlsKey(options)).key).not.toBe(made.key);
  });

  it('emitEvent', async () => {
    await expect(client.emitEvent('an-event', 'payload')).resolves.toBeUndefined();
  });

  it.each(['secp256k1', 'ed25519'])('sign and verify with %s', async (algorithm) => {
    const signed = await client.sign(algorithm, 'message');
    const verify = async (data: string) =>
      (await client.verify(algorithm, data, signed.signature, signed.public_key)).valid;
    expect(signed.signature_chain).toHaveLength(3);
    expect(await verify('message')).toBe(true);
    expect(await verify('another message')).toBe(false);
    await expect(client.sign('rsa', 'message')).rejects.toThrow();
  });

  it('attest', async () => {
    expect((await client.attest('nonce')).attestation.length).toBeGreaterThan(1000);
  });

  it('TappdClient: deriveKey, tdxQuote and the inherited getKey', async () => {
    const derived = await tappd.deriveKey('/', 'test');
    expect(derived.key).toContain('BEGIN PRIVATE KEY');
    expect((await tappd.deriveKey('/', 'test')).key).toBe(derived.key);
    expect((await tappd.tdxQuote('test data', 'sha256')).quote).toBeTruthy();
    expect((await tappd.tdxQuote('test data', 'raw')).quote).toBeTruthy();
    expect(hex((await tappd.getKey('/', 'test')).key)).toBe(hex((await client.getKey('/', 'test')).key));
  });

  it('two hundred calls at the same time', async () => {
    const keys = await Promise.all(Array.from({ length: 200 }, (_, n) => client.getKey(`path/${n}`)));
    expect(new Set(keys.map(({ key }) => hex(key))).size).toBe(200);
  });
});

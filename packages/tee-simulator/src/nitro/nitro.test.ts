import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AttestationError,
  bootInfo,
  decodeAttestation,
  encodeAttestation,
  parseCoseSign1,
  parseNitroDocument,
  pcsCollateral,
  type TrustRoots,
  type VerifyOptions,
  vendorRoots,
  verifyAttestation,
} from '@dstack-cloud/attestation';
import { Nsm, openNitroDevice } from '@dstack-cloud/attestation/attester';
import { encodeCbor, toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SocketServer } from '../tsm/socket-server.ts';
import { createNitro, type NitroOptions, type SimulatedNitro } from './nitro-platform.ts';
import { answerRequest, nsmEndpoint } from './nsm-endpoint.ts';

const NOW = 1_795_000_000;
const SEED = new Uint8Array(32).fill(6);
let directory: string;
let socketPath: string;
let endpoint: SocketServer | undefined;
let clock: number;

beforeEach(() => {
  clock = NOW * 1000;
  directory = mkdtempSync(join(tmpdir(), 'nsm-'));
  socketPath = join(directory, 's');
});
afterEach(async () => {
  await endpoint?.close();
  endpoint = undefined;
  rmSync(directory, { recursive: true });
});

async function start(options: NitroOptions = {}): Promise<SimulatedNitro> {
  const nitro = createNitro(SEED, options);
  endpoint = await nsmEndpoint(nitro, { socketPath, now: () => clock });
  return nitro;
}

const open = (bindAppId = true) => openNitroDevice({ nsm: `unix:${socketPath}`, bindAppId, timeoutMs: 2000 });
const roots = ({ rootDer }: SimulatedNitro): TrustRoots => ({
  ...vendorRoots(),
  nitro: [{ name: 'simulated', der: rootDer, simulated: true }],
});
const options = (nitro: SimulatedNitro, changes: Partial<VerifyOptions> = {}): VerifyOptions => ({
  roots: roots(nitro),
  collateral: pcsCollateral({ baseUrl: 'http://127.0.0.1:9' }),
  now: NOW,
  ...changes,
});
const appId = { event: 'app-id', payload: new Uint8Array(20).fill(4) };

describe('an enclave', () => {
  test('puts the nonce that it is given into its document, and none otherwise', async () => {
    await start();
    const device = open();
    const nonceIn = async (nonce?: Uint8Array): Promise<Uint8Array | undefined> => {
      const { quote } = await device.attest(new Uint8Array(64), nonce && { nonce });
      if (quote.mode !== 'dstack-nitro-enclave') throw new Error('an enclave');
      return parseNitroDocument(parseCoseSign1(quote.nsmQuote).payload, 'nsm').nonce;
    };
    expect(await nonceIn(Uint8Array.of(1, 2, 3))).toEqual(Uint8Array.of(1, 2, 3));
    expect(await nonceIn()).toBeUndefined();
  });

  test('is accepted under the configured root, and says simulated', async () => {
    const nitro = await start();
    const device = open();
    await device.emitEvent(appId);
    const reportData = new Uint8Array(64).fill(3);
    const attestation = await device.attest(reportData);
    const decoded = decodeAttestation(encodeAttestation(attestation));
    const verified = await verifyAttestation(decoded, options(nitro));
    expect(verified).toMatchObject({ mode: 'dstack-nitro-enclave', simulated: true, reportData });
    const info = bootInfo(verified, { bootTime: false });
    expect(info.appId).toEqual(appId.payload);
    expect(toHex(info.osImageHash)).toBe(
      (JSON.parse(attestation.config) as { os_image_hash: string }).os_image_hash,
    );
    expect(verified.registers['pcr16']).toEqual(nitro.pcrs[16]!.value);
  });

  const verdict = async (nitro: SimulatedNitro, changes: Partial<VerifyOptions> = {}) =>
    await verifyAttestation(await open().attest(new Uint8Array(64)), options(nitro, changes)).then(
      () => 'accepted',
      (error: AttestationError) => error.code,
    );

  test('is refused under the vendor roots', async () => {
    expect(await verdict(await start(), { roots: vendorRoots() })).toBe('chain-invalid');
  });
  test('is refused under another test root', async () => {
    const other = createNitro(new Uint8Array(32));
    expect(await verdict(await start(), { roots: roots(other) })).not.toBe('accepted');
  });
  test('in debug mode is refused', async () =>
    expect(await verdict(await start({ debug: true }))).toBe('debug'));
  test('is refused when its document is old', async () => {
    expect(await verdict(await start(), { now: NOW + 301 })).toBe('expired');
  });
  test('is refused when its document comes from the future', async () => {
    expect(await verdict(await start(), { now: NOW - 301 })).toBe('not-yet-valid');
  });
  test('with any byte of its document flipped is refused', async () => {
    const nitro = await start();
    const attestation = await open().attest(new Uint8Array(64));
    if (attestation.quote.mode !== 'dstack-nitro-enclave') throw new Error('no Nitro');
    const { nsmQuote } = attestation.quote;
    for (let at = 0; at < nsmQuote.length; at += 37) {
      const flipped = nsmQuote.slice();
      flipped[at] = flipped[at]! ^ 0x04;
      const changed = { ...attestation, quote: { ...attestation.quote, nsmQuote: flipped } };
      await expect(verifyAttestation(changed, options(nitro)), `byte ${at}`).rejects.toMatchObject({
        name: 'AttestationError',
      });
    }
  });
});

describe('the app id', () => {
  test('is bound once: a restarted program may say it again, but no other', async () => {
    const nitro = await start();
    await open().emitEvent(appId);
    expect(nitro.pcrs[16]).toMatchObject({ locked: true });
    await open().emitEvent(appId);
    const other = { ...appId, payload: new Uint8Array(20).fill(5) };
    await expect(open().emitEvent(other)).rejects.toMatchObject({ code: 'event-log' });
  });

  test('is the only event', async () => {
    await start();
    const device = open(false);
    await expect(device.emitEvent({ ...appId, event: 'x' })).rejects.toMatchObject({ code: 'unsupported' });
    await device.emitEvent(appId);
    await expect(device.emitEvent(appId)).rejects.toMatchObject({ code: 'unsupported' });
    expect(await device.events()).toEqual([appId]);
  });
});

describe('the security module', () => {
  test('describes, extends, locks and gives random bytes', async () => {
    const nitro = await start();
    const nsm = new Nsm(`unix:${socketPath}`, 2000);
    const description = await nsm.describe();
    expect(description).toMatchObject({ moduleId: nitro.moduleId, maxPcrs: 32, digest: 'SHA384' });
    expect(description.lockedPcrs).toHaveLength(16);
    const value = await nsm.extendPcr(20, Uint8Array.of(1));
    expect(await nsm.describePcr(20)).toEqual({ locked: false, value });
    await nsm.lockPcr(20);
    await expect(nsm.extendPcr(20, Uint8Array.of(1))).rejects.toMatchObject({ found: 'ReadOnlyIndex' });
    await expect(nsm.extendPcr(0, Uint8Array.of(1))).rejects.toMatchObject({ found: 'ReadOnlyIndex' });
    await nsm.lockPcrs(32);
    expect((await nsm.describe()).lockedPcrs).toHaveLength(32);
    await expect(nsm.lockPcrs(33)).rejects.toMatchObject({ found: 'InvalidArgument' });
    await expect(nsm.describePcr(32)).rejects.toMatchObject({ found: 'InvalidIndex' });
    expect(await nsm.random()).toHaveLength(256);
  });

  test('writes documents as the real one: an indefinite map, the null members, three hours', async () => {
    const nitro = createNitro(SEED);
    const document = nitro.document({}, clock);
    expect(toHex(document.subarray(0, 8))).toBe('8444a1013822a059');
    expect(document[10]).toBe(0xbf);
    expect(createNitro(SEED).document({}, clock)).toEqual(document);
  });

  test('survives any request', () => {
    const nitro = createNitro(SEED);
    const name = fc.constantFrom('Attestation', 'DescribePCR', 'ExtendPCR', 'LockPCR', 'LockPCRs', 'x');
    const args = fc.dictionary(
      fc.constantFrom('index', 'data', 'range', 'user_data'),
      fc.oneof(fc.integer(), fc.uint8Array()),
    );
    const request = fc.oneof(
      fc.uint8Array(),
      fc.tuple(name, args).map(([key, value]) => encodeCbor({ [key]: value })),
    );
    fc.assert(
      fc.property(request, (bytes) => {
        expect(answerRequest(bytes, nitro, clock)).toBeDefined();
      }),
      { numRuns: 200 },
    );
  });

  test('that is gone is named', async () => {
    await expect(new Nsm('unix:/nonexistent/nsm', 500).describe()).rejects.toMatchObject({ code: 'device' });
    await expect(new Nsm('/nonexistent/nsm').describe()).rejects.toMatchObject({ code: 'device' });
  });
});

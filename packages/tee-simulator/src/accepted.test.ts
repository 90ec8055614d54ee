import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AttestationError,
  bootInfo,
  decodeAttestation,
  encodeAttestation,
  inspectAttestation,
  pcsCollateral,
  type VerifyOptions,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { openTdxDevice } from '@dstack-cloud/attestation/attester';
import { utf8 } from '@dstack-cloud/encoding';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collateralServer } from './collateral/collateral-server.ts';
import { simulatedBoot } from './image/simulated-image.ts';
import { createPlatform } from './platform.ts';
import type { CollateralOptions } from './tdx/collateral.ts';
import type { QuoteOptions } from './tdx/quote.ts';
import { DEBUG_ATTRIBUTES, type TdState } from './tdx/td-state.ts';
import { type TsmEndpoint, tsmEndpoint } from './tsm/tsm-endpoint.ts';

const NOW = 1_795_000_000;
const platform = createPlatform(new Uint8Array(32).fill(7), { machine: 'test' });
const roots = withTdxRoot(vendorRoots(), platform.rootDer);
const image = 'dstack-test';
const directory = mkdtempSync(join(tmpdir(), 'sim-'));
let endpoints = 0;

/** A booted simulated machine: the boot events of docs/protocol/event-logs.md section 4.1 are measured. */
async function machine(options: { td?: Partial<TdState>; quote?: QuoteOptions } = {}) {
  const socketPath = join(directory, `tsm-${endpoints++}.sock`);
  const endpoint = await tsmEndpoint(platform, { socketPath, image, ...options });
  const location = `unix:${socketPath}`;
  const device = await openTdxDevice({
    tsm: location,
    rtmr: location,
    ccel: location,
    eventLog: join(directory, `events-${endpoints}.log`),
    vmConfig: () => JSON.stringify(simulatedBoot({ image }).vmConfig),
  });
  running.push(endpoint);
  for (const [event, payload] of [
    ['system-preparing', new Uint8Array()],
    ['app-id', new Uint8Array(20).fill(1)],
    ['compose-hash', new Uint8Array(32).fill(2)],
    ['instance-id', new Uint8Array(20).fill(3)],
    ['boot-mr-done', new Uint8Array()],
    ['key-provider', utf8('{"name":"none","id":""}')],
    ['storage-fs', utf8('ext4')],
    ['system-ready', new Uint8Array()],
  ] as const) {
    await device.emitEvent({ event, payload });
  }
  return device;
}

const running: TsmEndpoint[] = [];
afterAll(async () => {
  await Promise.all(running.map((endpoint) => endpoint.close()));
  rmSync(directory, { recursive: true });
});

const options = (collateral: CollateralOptions = {}): VerifyOptions => ({
  roots,
  collateral: platform.collateralSource(() => NOW, collateral),
  now: NOW,
});

describe.each([{ version: 4 }, { version: 5 }, { version: 5, body: '1.0' }] as QuoteOptions[])(
  'evidence with quote %o',
  (quote) => {
    let device: Awaited<ReturnType<typeof machine>>;
    beforeAll(async () => {
      device = await machine({ quote });
    });

    test('is accepted under the configured root, and says simulated', async () => {
      const reportData = new Uint8Array(64).fill(9);
      const encoded = encodeAttestation(await device.attest(reportData));
      const verified = await verifyAttestation(decodeAttestation(encoded), options());
      expect(verified).toMatchObject({ simulated: true, tcbStatus: 'UpToDate', advisoryIds: [], reportData });
      expect(verified.rawDeviceId).toEqual(platform.ppid);
      const info = bootInfo(verified, { bootTime: false });
      expect(info).toMatchObject({ simulated: true, appId: new Uint8Array(20).fill(1) });
      expect(info.osImageHash).toEqual(simulatedBoot({ image }).osImageHash);
    });

    test('is refused under the vendor roots', async () => {
      const attestation = await device.attest(new Uint8Array(64));
      const refused = await inspectAttestation(attestation, { ...options(), roots: vendorRoots() });
      expect(refused).toMatchObject({ error: { code: 'chain-invalid' } });
    });
  },
);

describe('the wrong machine, collateral or clock', () => {
  let device: Awaited<ReturnType<typeof machine>>;
  beforeAll(async () => {
    device = await machine();
  });
  const verdict = async (changed: Partial<VerifyOptions>) =>
    await verifyAttestation(await device.attest(new Uint8Array(64)), { ...options(), ...changed }).then(
      (verified) => verified.tcbStatus,
      (error: AttestationError) => error.code,
    );
  const collateral = (fault: CollateralOptions) => ({
    collateral: platform.collateralSource(() => NOW, fault),
  });

  test('another root', async () => {
    const other = createPlatform(new Uint8Array(32).fill(8));
    expect(await verdict({ roots: withTdxRoot(vendorRoots(), other.rootDer) })).toBe('signature-invalid');
  });
  test('collateral of another root', async () => {
    const other = createPlatform(new Uint8Array(32).fill(8));
    expect(await verdict({ collateral: other.collateralSource(() => NOW) })).toMatch(/invalid|unknown/);
  });
  test('expired collateral', async () =>
    expect(await verdict(collateral({ expired: true }))).toBe('expired'));
  test('a clock after the collateral', async () => {
    expect(await verdict({ now: NOW + 31 * 86_400 })).toBe('expired');
  });
  test('a clock before the collateral', async () => {
    expect(await verdict({ now: NOW - 2 * 86_400 })).toBe('not-yet-valid');
  });
  test('a revoked PCK', async () => expect(await verdict(collateral({ revokePck: true }))).toBe('revoked'));
  test.each(['OutOfDate', 'ConfigurationNeeded', 'SWHardeningNeeded'] as const)(
    'TCB status %s is reported',
    async (tcbStatus) => expect(await verdict(collateral({ tcbStatus }))).toBe(tcbStatus),
  );
  test('a revoked TCB', async () => expect(await verdict(collateral({ tcbStatus: 'Revoked' }))).toBe('tcb'));

  test('a debug TD', async () => {
    const debug = await machine({ td: { tdAttributes: DEBUG_ATTRIBUTES } });
    await expect(verifyAttestation(await debug.attest(new Uint8Array(64)), options())).rejects.toMatchObject({
      code: 'debug',
    });
  });

  test('a quote with any byte of its signed or signing part flipped', async () => {
    const attestation = await device.attest(new Uint8Array(64));
    if (attestation.quote.mode !== 'dstack-tdx') throw new Error('no TDX');
    const { quote } = attestation.quote;
    for (let at = 0; at < 1252; at += 7) {
      const flipped = quote.slice();
      flipped[at] = flipped[at]! ^ 0x10;
      const changed = { ...attestation, quote: { ...attestation.quote, quote: flipped } };
      await expect(verifyAttestation(changed, options()), `byte ${at}`).rejects.toMatchObject({
        name: 'AttestationError',
      });
    }
  });
});

describe('the collateral service', () => {
  test('serves what the client of production needs', async () => {
    const device = await machine();
    const server = await collateralServer(platform, { now: () => NOW });
    try {
      const collateral = pcsCollateral({ baseUrl: server.url, now: () => NOW });
      const verified = await verifyAttestation(await device.attest(new Uint8Array(64)), {
        ...options(),
        collateral,
      });
      expect(verified.tcbStatus).toBe('UpToDate');
    } finally {
      await server.close();
    }
  });

  test('renews its dates with the clock, says simulated, and knows its own family only', async () => {
    let now = NOW;
    const server = await collateralServer(platform, { now: () => now });
    try {
      const fmspc = Buffer.from(platform.fmspc).toString('hex');
      const get = async (path: string) => await fetch(server.url + path);
      const issued = async () => {
        const answer = await get(`/tdx/certification/v4/tcb?fmspc=${fmspc}`);
        expect(answer.headers.get('x-dstack-simulated')).toBe('true');
        return ((await answer.json()) as { tcbInfo: { issueDate: string } }).tcbInfo.issueDate;
      };
      const before = await issued();
      expect(await issued()).toBe(before);
      now += 40 * 86_400;
      expect(await issued()).not.toBe(before);
      expect((await get('/tdx/certification/v4/tcb?fmspc=000000000000')).status).toBe(404);
      expect((await get('/sgx/certification/v4/pckcrl?ca=processor')).status).toBe(404);
      expect((await get('/')).status).toBe(404);
      expect((await fetch(server.url, { method: 'POST' })).status).toBe(405);
    } finally {
      await server.close();
    }
  });

  test('names the port that it cannot have', async () => {
    const server = await collateralServer(platform);
    try {
      await expect(collateralServer(platform, { port: server.port })).rejects.toThrow(
        `Cannot listen on 127.0.0.1:${server.port}: another program uses it`,
      );
    } finally {
      await server.close();
    }
  });
});

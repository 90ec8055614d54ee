/** The adapter of real machines: a directory, whose kernel a test plays. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vendorRoots, verifyAttestation, withTdxRoot } from '@dstack-cloud/attestation';
import {
  detectPlatform,
  openDevice,
  PLATFORM_PATHS,
  type PlatformPaths,
} from '@dstack-cloud/attestation/attester';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { simulatedBoot } from '../image/simulated-image.ts';
import { createPlatform } from '../platform.ts';
import { TsmDevice } from './tsm-device.ts';

const NOW = 1_795_000_000;
const ENTRY = 'com.intel.dcap';
const platform = createPlatform(new Uint8Array(32).fill(9));
let root: string;
let paths: PlatformPaths;
let device: TsmDevice;
let kernel: NodeJS.Timeout;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'machine-'));
  paths = {
    ...PLATFORM_PATHS,
    nsm: join(root, 'nsm'),
    tdxGuest: join(root, 'tdx_guest'),
    productName: join(root, 'product_name'),
    sysVendor: join(root, 'sys_vendor'),
    tsmReports: join(root, 'report'),
    rtmrs: join(root, 'measurements'),
    ccel: join(root, 'CCEL'),
  };
  device = new TsmDevice(platform, { image: 'directory' });
  const entry = join(paths.tsmReports, ENTRY);
  for (const directory of [entry, paths.rtmrs]) mkdirSync(directory, { recursive: true });
  writeFileSync(paths.tdxGuest, '');
  writeFileSync(paths.productName, 'dstack\n');
  writeFileSync(paths.ccel, device.ccel);
  writeFileSync(join(entry, 'provider'), 'tdx_guest\n');
  writeFileSync(join(entry, 'generation'), '0\n');
  writeFileSync(join(entry, 'inblob'), '');
  const register = join(paths.rtmrs, 'rtmr3:sha384');
  writeFileSync(register, new Uint8Array(48));
  let generation = 0;
  // What a kernel does at once, a few milliseconds later.
  kernel = setInterval(() => {
    const reportData = readFileSync(join(entry, 'inblob'));
    if (reportData.length === 64) {
      writeFileSync(join(entry, 'inblob'), '');
      writeFileSync(join(entry, 'outblob'), device.quote(new Uint8Array(reportData)));
      writeFileSync(join(entry, 'generation'), `${++generation}\n`);
    }
    const digest = readFileSync(register);
    if (digest.some((byte) => byte !== 0)) {
      writeFileSync(register, new Uint8Array(48));
      void device.extend(3, new Uint8Array(digest));
    }
  }, 2);
});
afterEach(() => {
  clearInterval(kernel);
  rmSync(root, { recursive: true });
});

test('a machine that looks like real TDX hardware gives evidence through its kernel files', async () => {
  expect(detectPlatform(paths)).toBe('dstack-tdx');
  const tdx = await openDevice({
    eventLog: join(root, 'events.log'),
    vmConfig: () => JSON.stringify(simulatedBoot({ image: 'directory' }).vmConfig),
    paths,
  });
  for (const [event, length] of [
    ['system-preparing', 0],
    ['app-id', 20],
    ['compose-hash', 32],
    ['instance-id', 20],
    ['boot-mr-done', 0],
    ['system-ready', 0],
  ] as const) {
    await tdx.emitEvent({ event, payload: new Uint8Array(length).fill(1) });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const reportData = new Uint8Array(64).fill(2);
  const verified = await verifyAttestation(await tdx.attest(reportData), {
    roots: withTdxRoot(vendorRoots(), platform.rootDer),
    collateral: platform.collateralSource(() => NOW),
    now: NOW,
  });
  expect(verified).toMatchObject({ mode: 'dstack-tdx', simulated: true, reportData });
});

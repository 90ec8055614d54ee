import { toHex } from '@dstack-cloud/encoding';
import { expect, test } from 'vitest';
import { defaultCrypto } from '#crypto';
import { snpLaunchDigest } from './launch-digest.ts';
import { SECTION, type SnpMeasurementDocument } from './measurement-document.ts';

const PAGE = 4096;
const LAUNCH = { vcpus: 512, vcpuType: 'EPYC-Milan', guestFeatures: 1n };
const documentOf = (pages: number): SnpMeasurementDocument => ({
  commandLine: `dstack.rootfs_hash=${'ab'.repeat(32)}`,
  ovmfHash: new Uint8Array(48),
  kernelHash: new Uint8Array(32),
  initrdHash: new Uint8Array(32),
  hashesTableGpa: 0x80f000,
  resetEip: 0x80b004,
  sections: [
    { gpa: 0x800000, size: pages * PAGE, type: SECTION.memory },
    { gpa: 0x80f000, size: PAGE, type: SECTION.kernelHashes },
  ],
});

test('the largest launch that is computed leaves the loop to others in between', async () => {
  let turns = 0;
  const turn = setInterval(() => {
    turns += 1;
  }, 0);
  const digest = await snpLaunchDigest(documentOf(4095), LAUNCH, defaultCrypto);
  clearInterval(turn);
  expect(digest).toHaveLength(48);
  // One for each 256 pages.
  expect(turns).toBeGreaterThanOrEqual(10);
});

test('what is refused is refused before pages are hashed', async () => {
  let hashes = 0;
  const crypto: Pick<typeof defaultCrypto, 'hash'> = {
    hash: (...data) => {
      hashes += 1;
      return defaultCrypto.hash(...data);
    },
  };
  for (const launch of [
    { ...LAUNCH, vcpus: 513 },
    { ...LAUNCH, vcpus: 0.5 },
    { ...LAUNCH, vcpuType: 'EPYC-Unknown' },
  ]) {
    await expect(snpLaunchDigest(documentOf(4095), launch, crypto)).rejects.toMatchObject({ code: 'image' });
  }
  expect(hashes).toBeLessThan(10);
});

test('a digest does not depend on where its slices end', async () => {
  const whole = await snpLaunchDigest(documentOf(600), LAUNCH, defaultCrypto);
  expect(toHex(whole)).toBe(toHex(await snpLaunchDigest(documentOf(600), LAUNCH, defaultCrypto)));
  expect(toHex(whole)).not.toBe(toHex(await snpLaunchDigest(documentOf(601), LAUNCH, defaultCrypto)));
});

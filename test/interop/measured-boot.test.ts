import {
  authenticodeDigest,
  EV_NO_ACTION,
  MEASURED_SECTIONS_252,
  parseBootLog,
  predictUki,
  readUki,
  replayDigests,
  webCrypto,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { beforeAll, describe, expect, it } from 'vitest';
import { bootUki, buildUki, type MeasuredBoot, measuredBootMissing } from './boot-uki.ts';

// Kernel messages between the lines of the guest's init would break them: loglevel=0.
const COMMAND_LINE = 'console=ttyS0 quiet loglevel=0 panic=-1 dstack.test=1';
const BOOT_TIMEOUT_MS = 180_000;
/** The kernel's IMA measures into it, after the firmware's log was closed. */
const IMA_PCR = 10;

describeWithMeasuredBoot('a UKI booted by OVMF with a TPM', () => {
  let file: Uint8Array;
  let boot: MeasuredBoot;

  beforeAll(async () => {
    file = buildUki(COMMAND_LINE);
    boot = await bootUki(file);
  }, BOOT_TIMEOUT_MS);

  const predict = () =>
    predictUki(
      readUki(file),
      { gptDigest: new Uint8Array(32), measuredSections: MEASURED_SECTIONS_252 },
      webCrypto,
    );

  it.each([
    ['PCR 4', 4, 'pcr4'],
    ['PCR 9', 9, 'pcr9'],
    ['PCR 11', 11, 'pcr11'],
  ] as const)('has the value predicted from the file in %s', (_name, index, register) => {
    expect(toHex(replayDigests(predict()[register], 'sha256'))).toBe(boot.pcrs.sha256[index]);
  });

  it.each(['sha256', 'sha384'] as const)('wrote a log that replays to all PCRs of bank %s', (bank) => {
    const log = parseBootLog(boot.log);
    expect(log.anomalies).toEqual([]);
    expect(log.banks).toContain(bank);
    const measured = log.events.filter((event) => event.type !== EV_NO_ACTION);
    const found = [...Array(16).keys()].filter((index) => index !== IMA_PCR);
    const replayed = found.map((index) => {
      const digests = measured.filter((event) => event.index === index).map((e) => e.digests.get(bank)!);
      return [index, toHex(replayDigests(digests, bank))];
    });
    expect(replayed).toEqual(found.map((index) => [index, boot.pcrs[bank][index]]));
  });

  it('was hashed by the firmware with SHA-384 as Authenticode for RTMRs', () => {
    const loaded = parseBootLog(boot.log)
      .events.filter((event) => event.index === 4)
      .map((event) => toHex(event.digests.get('sha384')!));
    const images = [file, readUki(file).kernel];
    const digests = images.map((image) => toHex(authenticodeDigest(image, 'sha384', webCrypto).digest));
    expect(loaded.slice(2)).toEqual(digests);
  });
});

function describeWithMeasuredBoot(name: string, body: () => void): void {
  const missing = measuredBootMissing();
  if (missing === undefined) describe(name, body);
  else describe.skip(`${name} (skipped: ${missing})`, body);
}

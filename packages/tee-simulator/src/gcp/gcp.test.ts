import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AttestationError,
  bootInfo,
  decodeAttestation,
  encodeAttestation,
  type GcpTdxAttestationQuote,
  type VerifyOptions,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { extendPcr, openGcpTdxDevice, withTpm } from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithSwtpm, type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { replaySha256 } from '../image/hash.ts';
import { createPlatform } from '../platform.ts';
import { type TsmEndpoint, tsmEndpoint } from '../tsm/tsm-endpoint.ts';
import { gceBootEvents } from './gce-boot-log.ts';
import { createGcp, type GcpBoot } from './gcp-platform.ts';

const NOW = 1_795_000_000;
const SEED = new Uint8Array(32).fill(5);
const platform = createPlatform(SEED);
const gcp = createGcp(SEED);
const roots = {
  ...withTdxRoot(vendorRoots(), platform.rootDer),
  gcpTpm: [{ name: 'simulated', der: gcp.rootDer, simulated: true }],
};

test('the simulated firmware has the PCR 0 of GCE with TDX', () => {
  const digest = new Uint8Array(32);
  const events = gceBootEvents({
    ...{ uki: digest, kernel: digest, commandLine: digest, initrd: digest },
    ...{ gpt: digest, sections: true },
  });
  const pcr0 = replaySha256(events.filter(({ pcr }) => pcr === 0).map((event) => event.digest));
  expect(toHex(pcr0)).toBe('0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802');
});

describeWithSwtpm('a GCP machine on a software TPM', () => {
  const directory = mkdtempSync(join(tmpdir(), 'gcp-'));
  let tpm: SoftwareTpm;
  let endpoint: TsmEndpoint;
  let boot: GcpBoot;
  let device: Awaited<ReturnType<typeof openGcpTdxDevice>>;

  beforeAll(async () => {
    tpm = await startSwtpm();
    boot = await gcp.boot(tpm.location, { image: 'dstack-test' });
    const socketPath = join(directory, 's');
    endpoint = await tsmEndpoint(platform, { socketPath, image: 'gce' });
    const tpmEventLog = join(directory, 'tpm.log');
    writeFileSync(tpmEventLog, boot.eventLog);
    device = await openGcpTdxDevice({
      tsm: `unix:${socketPath}`,
      rtmr: `unix:${socketPath}`,
      eventLog: join(directory, 'events.log'),
      tpm: tpm.location,
      tpmEventLog,
      vmConfig: () => JSON.stringify(boot.vmConfig),
    });
    for (const [event, payload] of [
      ['system-preparing', new Uint8Array()],
      ['app-id', new Uint8Array(20).fill(1)],
      ['compose-hash', new Uint8Array(32).fill(2)],
      ['instance-id', new Uint8Array(20).fill(3)],
      ['boot-mr-done', new Uint8Array()],
      ['key-provider', utf8('{"name":"none","id":""}')],
      ['system-ready', new Uint8Array()],
    ] as const) {
      await device.emitEvent({ event, payload });
    }
  });
  afterAll(async () => {
    await endpoint?.close();
    await tpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const options = (changes: Partial<VerifyOptions> = {}, revokeAk = false): VerifyOptions => ({
    roots,
    collateral: {
      ...platform.collateralSource(() => NOW),
      tpm: async () => gcp.collateral(NOW, { revokeAk }),
    },
    now: NOW,
    // No endorsement of Google covers a simulated firmware.
    platform: { gcpFirmwareEndorsement: false },
    ...changes,
  });
  const evidence = () => device.attest(new Uint8Array(64).fill(8));
  const verdict = async (
    changed: (quote: GcpTdxAttestationQuote) => GcpTdxAttestationQuote,
    verify = options(),
  ) => {
    const attestation = await evidence();
    const quote = changed(attestation.quote as GcpTdxAttestationQuote);
    return await verifyAttestation({ ...attestation, quote }, verify).then(
      () => 'accepted',
      (error: AttestationError) => error.code,
    );
  };

  test('is accepted under the configured roots, and says simulated', async () => {
    const attestation = decodeAttestation(encodeAttestation(await evidence()));
    const verified = await verifyAttestation(attestation, options());
    expect(verified).toMatchObject({ mode: 'dstack-gcp-tdx', simulated: true, tcbStatus: 'UpToDate' });
    const { tpmQuote } = attestation.quote as GcpTdxAttestationQuote;
    expect(tpmQuote.pcrValues.map(({ index }) => index)).toEqual([0, 2, 4, 5, 7, 9, 11, 12, 13, 14]);
    const info = bootInfo(verified, { bootTime: false });
    expect(toHex(info.osImageHash)).toBe(boot.vmConfig['os_image_hash']);
    expect(info.appId).toEqual(new Uint8Array(20).fill(1));
  });

  test('is refused when only one of its two roots is configured', async () => {
    const intel = { ...options(), roots: { ...roots, tdx: vendorRoots().tdx } };
    const google = { ...options(), roots: { ...roots, gcpTpm: vendorRoots().gcpTpm } };
    expect(await verdict((quote) => quote, intel)).toBe('chain-invalid');
    expect(await verdict((quote) => quote, google)).toBe('chain-invalid');
  });

  test('needs the endorsement of its firmware unless told otherwise', async () => {
    expect(await verdict((quote) => quote, options({ platform: {} }))).not.toBe('accepted');
  });

  test('with a revoked attestation key is refused', async () => {
    expect(await verdict((quote) => quote, options({}, true))).toBe('revoked');
  });

  test('with the vTPM quote of another TDX quote is refused', async () => {
    const other = (await device.attest(new Uint8Array(64))).quote as GcpTdxAttestationQuote;
    expect(await verdict((quote) => ({ ...quote, tpmQuote: other.tpmQuote }))).toBe('mismatch');
  });

  test('with a PCR value, a log event or a signature changed is refused', async () => {
    const flip = (bytes: Uint8Array) => bytes.map((byte, i) => (i === 9 ? byte ^ 1 : byte));
    const withTpmQuote = (change: (tpmQuote: GcpTdxAttestationQuote['tpmQuote']) => object) =>
      verdict((quote) => ({ ...quote, tpmQuote: { ...quote.tpmQuote, ...change(quote.tpmQuote) } }));
    expect(
      await withTpmQuote(({ pcrValues }) => ({
        pcrValues: pcrValues.map((pcr) => (pcr.index === 4 ? { ...pcr, value: flip(pcr.value) } : pcr)),
      })),
    ).toBe('mismatch');
    expect(
      await withTpmQuote(({ eventLog }) => ({
        eventLog: [...eventLog, { pcrIndex: 2, digest: fromHex('11'.repeat(32)) }],
      })),
    ).toBe('event-log');
    expect(await withTpmQuote(({ signature }) => ({ signature: flip(signature) }))).toBe('signature-invalid');
    expect(await withTpmQuote(({ message }) => ({ message: flip(message) }))).not.toBe('accepted');
  });

  test('whose boot stub took an add-on or an extension from the boot partition is refused', async () => {
    const refusal = async () => {
      const attestation = await evidence();
      return await verifyAttestation(attestation, options()).catch((error: AttestationError) => error.check);
    };
    for (const pcr of [13, 12]) {
      await withTpm(tpm.location, (client) =>
        extendPcr(client, pcr, { sha256: new Uint8Array(32).fill(pcr) }),
      );
      expect(await refusal()).toBe(`image.pcr${pcr}`);
    }
  });

  test('whose PCR 14 was extended behind its back gives no evidence', async () => {
    await withTpm(tpm.location, (client) => extendPcr(client, 14, { sha256: new Uint8Array(32) }));
    await expect(evidence()).rejects.toMatchObject({ code: 'event-log', check: 'tpm.pcr14' });
  });
});

describe('the simulated certificate authority', () => {
  test('gives the same root for the same seed', () => {
    expect(createGcp(SEED).rootDer).toEqual(gcp.rootDer);
    expect(createGcp(new Uint8Array(32)).rootDer).not.toEqual(gcp.rootDer);
  });
});

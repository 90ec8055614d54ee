import { encodeGcpDocument, type TpmCollateral } from '@dstack-cloud/attestation';
import {
  createPrimary,
  extendPcr,
  GCE_AK_INDICES,
  HANDLE,
  nvDefine,
  nvRead,
  nvWrite,
  type Tpm,
  withTpm,
} from '@dstack-cloud/attestation/attester';
import { der, encodePem, fromHex, toBase64, toHex, utf8 } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { sha256 } from '../image/hash.ts';
import { issueCertificate, issueRevocationList, type Party } from '../pki/certificate.ts';
import { seededBytes, seededKey } from '../pki/seeded-key.ts';
import { seededSerial } from '../pki/serial.ts';
import { type GceImage, gceBootEvents, writeTpmLog } from './gce-boot-log.ts';
import { issuerPlaces } from './issuer-places.ts';

const SEED_BYTES = 32;
const NOT_BEFORE = Date.UTC(2020, 0, 1) / 1000;
const NOT_AFTER = Date.UTC(2100, 0, 1) / 1000;
const HOUR = 3600;
const CRL_LIFE = 30 * 24 * HOUR;
/** tcg-kp-EKCertificate, which Google's intermediates carry. */
const EKU_TPM = '2.23.133.8.1';
/** Restricted ECDSA P-256 signing key. */
const ECC_AK_TEMPLATE = fromHex('0023000b00050072000000100018000b0003001000000000');
/** ppwrite, ownerwrite off; ppread, ownerread, authread, no_da, platformcreate. */
const GOOGLE_NV_ATTRIBUTES = 0x42070001;
const MEASUREMENT_FILE = 'measurement.gcp.cbor';

export interface GcpMachine {
  /** What is booted: the digests of an image, or the name of one that is nothing but a name. */
  readonly image: string | GceImage;
  readonly machine?: string;
}

export interface GcpOptions {
  /** The collateral service of the same seed, for certificates of attestation keys that say where their issuer's lie. */
  readonly collateralUrl?: string;
}

/** A booted vTPM. */
export interface GcpBoot {
  /** binary_bios_measurements. */
  readonly eventLog: Uint8Array;
  readonly akCertificate: Uint8Array;
  /** vm_config of this image. */
  readonly vmConfig: Readonly<Record<string, unknown>>;
}

/** Google's certificate authority for vTPMs under a test root, and the making of GCE-like TPMs. */
export interface SimulatedGcp {
  readonly simulated: true;
  readonly rootDer: Uint8Array;
  readonly rootPem: string;
  readonly intermediateDer: Uint8Array;
  /** Intermediate, and revocation lists in force at `now` (unix seconds). */
  collateral(now: number, options?: { revokeAk?: boolean }): TpmCollateral;
  /**
   * Makes a TPM (swtpm: `unix:PATH`, `tcp:HOST:PORT`) one of GCE: attestation key certified and stored in NV, PCRs
   * extended as its firmware would. PCRs must be as after a start; a TPM that has its key already keeps it.
   * @throws AttestationError `device`
   */
  boot(tpm: string, machine: GcpMachine): Promise<GcpBoot>;
}

/** The simulated GCP of a seed. @throws SimulatorError `argument` */
export function createGcp(seed: Uint8Array, { collateralUrl }: GcpOptions = {}): SimulatedGcp {
  if (seed.length !== SEED_BYTES) {
    throw new SimulatorError('argument', `The seed has ${seed.length} bytes, not ${SEED_BYTES}`);
  }
  const root: Party = { name: 'Simulated Google EK/AK CA Root', key: seededKey(seed, 'tpm-root') };
  const intermediate: Party = {
    name: 'Simulated Google EK/AK CA Intermediate',
    key: seededKey(seed, 'tpm-intermediate'),
  };
  const ca = (subject: Party, label: string, pathLength: number) =>
    issueCertificate({
      subject: { name: subject.name, spki: subject.key.spki },
      issuer: root,
      serial: seededSerial(seed, label),
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      ca: { pathLength },
      ...(subject === root ? {} : { extendedKeyUsage: [EKU_TPM] }),
    });
  const rootDer = ca(root, 'tpm-root', 1);
  const intermediateDer = ca(intermediate, 'tpm-intermediate', 0);
  const akSerial = (machine: string) => seededSerial(seed, `tpm-ak:${machine}`);
  return {
    simulated: true,
    rootDer,
    rootPem: encodePem('CERTIFICATE', rootDer),
    intermediateDer,
    collateral(now, options = {}) {
      const hour = Math.floor(now / HOUR) * HOUR;
      const dates = { thisUpdate: hour - HOUR, nextUpdate: hour + CRL_LIFE, number: hour / HOUR };
      const revoked = options.revokeAk ? [akSerial('')] : [];
      return {
        certChainPem: encodePem('CERTIFICATE', intermediateDer),
        crls: [issueRevocationList({ issuer: intermediate, ...dates, revoked })],
        rootCaCrl: issueRevocationList({ issuer: root, ...dates }),
      };
    },
    boot: (location, { image, machine = '' }) =>
      withTpm(location, async (tpm) => {
        const akCertificate = await certifyAk(tpm, (spki) =>
          issueCertificate({
            subject: { name: toHex(seededBytes(seed, `gce-instance:${machine}`, 8)), spki },
            issuer: intermediate,
            serial: akSerial(machine),
            notBefore: NOT_BEFORE,
            notAfter: NOT_AFTER,
            extensions: collateralUrl === undefined ? [] : issuerPlaces(collateralUrl),
          }),
        );
        const digests = typeof image === 'string' ? imageDigests(image) : image;
        const events = gceBootEvents(digests);
        for (const { pcr, digest } of events) await extendPcr(tpm, pcr, { sha256: digest });
        return { eventLog: writeTpmLog(events), akCertificate, vmConfig: vmConfig(digests) };
      }),
  };
}

/** Makes the attestation key, and stores its certificate and template where Google does. */
async function certifyAk(tpm: Tpm, issue: (spki: Uint8Array) => Uint8Array): Promise<Uint8Array> {
  const [indices] = GCE_AK_INDICES;
  if (!indices) throw new SimulatorError('argument', 'No NV index for the attestation key');
  const known = await nvRead(tpm, indices.certificate);
  if (known !== undefined) return known;
  const key = await createPrimary(tpm, 'endorsement', ECC_AK_TEMPLATE);
  const certificate = issue(eccSpki(key.publicArea));
  for (const [index, data] of [
    [indices.certificate, certificate],
    [indices.template, ECC_AK_TEMPLATE],
  ] as const) {
    const options = { attributes: GOOGLE_NV_ATTRIBUTES, authority: HANDLE.platform };
    await nvDefine(tpm, index, data.length, options);
    await nvWrite(tpm, index, data, HANDLE.platform);
  }
  await tpm.flush(key.handle);
  return certificate;
}

/** TPMT_PUBLIC of a P-256 key ends with TPM2B x and TPM2B y of 32 bytes each. */
function eccSpki(publicArea: Uint8Array): Uint8Array {
  const point = new Uint8Array(65);
  point[0] = 4;
  point.set(publicArea.subarray(-66, -34), 1);
  point.set(publicArea.subarray(-32), 33);
  const algorithm = der.sequence(der.oid('1.2.840.10045.2.1'), der.oid('1.2.840.10045.3.1.7'));
  return der.sequence(algorithm, der.bitString(point));
}

function imageDigests(image: string): GceImage {
  const part = (name: string) => sha256(`simulated GCE image ${image}: ${name}`);
  return {
    uki: part('UKI'),
    kernel: part('kernel'),
    commandLine: part('command line'),
    initrd: part('initrd'),
    gpt: sha256('simulated GPT'),
    sections: true,
  };
}

/** docs/protocol/images.md sections 3 and 5.3. */
function vmConfig({ uki }: GceImage): Record<string, unknown> {
  const measurement = encodeGcpDocument(uki);
  const checksumFile = utf8(`${toHex(sha256(measurement))}  ${MEASUREMENT_FILE}\n`);
  return {
    spec_version: 2,
    os_image_hash: toHex(sha256(checksumFile)),
    gcp_measurement: { checksum_file: toBase64(checksumFile), measurement: toBase64(measurement) },
  };
}

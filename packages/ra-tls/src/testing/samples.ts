// Material for the tests of this package; nothing outside of tests imports it.
import { type Attestation, ratlsReportData, type VerifiedAttestation } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyFromScalar } from '@dstack-cloud/keys';
import { certificatePem, type Issuer, issuerOf } from '../certificate/issue-certificate.ts';
import { rootCa, rpcCertificate, tempCa } from '../certificate/profiles.ts';
import type { PeerCertificate } from '../tls/peer.ts';

/** Roots of docs/protocol/keys.md section 3.1. */
export const rootKey: P256Key = p256KeyFromScalar(
  fromHex('f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1'),
);
export const appCaKey: P256Key = p256KeyFromScalar(
  fromHex('5b779e0a9fe80b2e5866d94958daa1a4e29a183228b3f37acd7eae153e18a75f'),
);
export const now: number = Math.floor(Date.now() / 1000);

/** Evidence of the right form that nothing stands behind. */
export function hollowAttestation(reportData: Uint8Array): Attestation {
  return {
    quote: { mode: 'dstack-tdx', quote: new Uint8Array(), eventLog: [] },
    runtimeEvents: [{ event: 'app-id', payload: new Uint8Array(20).fill(0x11) }],
    reportData,
    config: '',
  };
}

export function attestationFor(key: P256Key): Attestation {
  return hollowAttestation(ratlsReportData(key.spki));
}

/** Stands for the verdict on evidence where the tests are about something else. */
export function verdict(validUntil: number = now + 3600): VerifiedAttestation {
  return { simulated: true, validUntil } as unknown as VerifiedAttestation;
}

export interface TestKms {
  readonly rootPem: string;
  readonly root: Issuer;
  readonly tempCaPem: string;
  readonly tempKey: P256Key;
  readonly temp: Issuer;
  readonly rpcKey: P256Key;
  readonly rpcPem: string;
}

/** Root, temp CA and server certificate of a KMS at 127.0.0.1. */
export function testKms(options: { key?: P256Key; attested?: boolean } = {}): TestKms {
  const key = options.key ?? generateP256Key();
  const rootDer = rootCa({ key, now });
  const root = issuerOf(rootDer, key);
  const tempKey = generateP256Key();
  const tempDer = tempCa({ key: tempKey, now });
  const rpcKey = generateP256Key();
  const rpc = rpcCertificate({
    domain: '127.0.0.1',
    spki: rpcKey.spki,
    issuer: root,
    now,
    ...(options.attested && { attestation: attestationFor(rpcKey) }),
  });
  return {
    rootPem: certificatePem(rootDer),
    root,
    tempCaPem: certificatePem(tempDer),
    tempKey,
    temp: issuerOf(tempDer, tempKey),
    rpcKey,
    rpcPem: certificatePem(rpc),
  };
}

/** Accepts evidence whose report_data names the key of its certificate. */
export function bindingOnly(certificate: PeerCertificate): Promise<VerifiedAttestation> {
  const expected = ratlsReportData(certificate.spki);
  const bound = Buffer.compare(certificate.attestation!.reportData, expected) === 0;
  return bound ? Promise.resolve(verdict()) : Promise.reject(new Error('report data mismatch'));
}

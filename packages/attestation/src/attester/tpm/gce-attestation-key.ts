import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { createPrimary, type LoadedObject } from './tpm-keys.ts';
import { nvRead } from './tpm-nv.ts';

/**
 * Where Google keeps certificates and templates of the attestation keys; ECC first (docs/protocol/evidence.md section
 * 12.4).
 */
export const GCE_AK_INDICES: readonly { readonly certificate: number; readonly template: number }[] = [
  { certificate: 0x01c10002, template: 0x01c10003 },
  { certificate: 0x01c10000, template: 0x01c10001 },
];

export interface GceAttestationKey {
  readonly key: LoadedObject;
  /** DER. */
  readonly certificate: Uint8Array;
}

/**
 * The attestation key that Google certified: made again from its template, as it is stored nowhere.
 * @throws AttestationError `device` when this TPM has none
 */
export async function gceAttestationKey(tpm: Tpm): Promise<GceAttestationKey> {
  for (const { certificate, template } of GCE_AK_INDICES) {
    const [der, area] = [await nvRead(tpm, certificate), await nvRead(tpm, template)];
    if (der && area) return { key: await createPrimary(tpm, 'endorsement', area), certificate: derOnly(der) };
  }
  throw new AttestationError('device', 'This vTPM has no attestation key of Google', {
    expected: 'NV 0x01c10002 or 0x01c10000',
  });
}

/** An NV index may be larger than what it holds: the certificate ends where its SEQUENCE does. */
function derOnly(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x30 || bytes[1] !== 0x82) return bytes;
  return bytes.subarray(0, 4 + bytes[2]! * 256 + bytes[3]!);
}

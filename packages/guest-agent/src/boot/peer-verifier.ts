import { readFileBounded } from '@dstack-cloud/app';
import { pcsCollateral, type TrustRoots, vendorRoots, withTdxRoot } from '@dstack-cloud/attestation';
import { decodePem, utf8Text } from '@dstack-cloud/encoding';
import { type PeerVerifier, verifyPeerAttestation } from '@dstack-cloud/ra-tls';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';

const MAX_ROOT_BYTES = 64 * 1024;
/** Intel's provisioning certification service. */
const INTEL_PCS = 'https://api.trustedservices.intel.com';

/**
 * Judges the evidence of other machines: vendor roots, and the one root beside them that the configuration names for
 * simulated hardware.
 *
 * @param pccsUrl of the sys-config, used when the configuration names none; what it serves is signed, so an untrusted
 *   host may choose it
 * @throws GuestError `config-invalid` when the root cannot be read
 */
export async function peerVerifier(config: GuestConfig, pccsUrl: string | undefined): Promise<PeerVerifier> {
  const roots = await trustRoots(config.tdxRootFile);
  const collateral = pcsCollateral({ baseUrl: config.pccsUrl ?? pccsUrl ?? INTEL_PCS });
  return (certificate) =>
    verifyPeerAttestation(certificate, { roots, collateral, now: Math.floor(Date.now() / 1000) });
}

async function trustRoots(file: string | undefined): Promise<TrustRoots> {
  if (file === undefined) return vendorRoots();
  try {
    const bytes = await readFileBounded(file, MAX_ROOT_BYTES);
    // PEM or DER.
    const der = bytes[0] === 0x30 ? bytes : decodePem(utf8Text(bytes), 'CERTIFICATE');
    return withTdxRoot(vendorRoots(), der);
  } catch (cause) {
    throw new GuestError('config-invalid', `attestation.root_ca.tdx: ${file} is no certificate`, { cause });
  }
}

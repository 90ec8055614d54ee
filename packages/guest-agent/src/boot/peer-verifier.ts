import { readFileBounded } from '@dstack-cloud/app';
import {
  addRoot,
  rootCertificate,
  type TrustRoots,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { type PeerVerifier, verifyPeerAttestation } from '@dstack-cloud/ra-tls';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';

const MAX_ROOT_BYTES = 64 * 1024;

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
  const collateral = vendorCollateral({ roots, pccs: config.pccsUrl ?? pccsUrl });
  return (certificate) =>
    verifyPeerAttestation(certificate, { roots, collateral, now: Math.floor(Date.now() / 1000) });
}

async function trustRoots(file: string | undefined): Promise<TrustRoots> {
  if (file === undefined) return vendorRoots();
  try {
    return addRoot(vendorRoots(), 'tdx', rootCertificate(await readFileBounded(file, MAX_ROOT_BYTES)));
  } catch (cause) {
    throw new GuestError('config-invalid', `attestation.root_ca.tdx: ${file} is no certificate`, { cause });
  }
}

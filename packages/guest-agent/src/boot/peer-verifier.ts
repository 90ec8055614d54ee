import { readFileBounded, type SysConfig } from '@dstack-cloud/app';
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
 * @param sys names the services of collateral that the configuration does not; what they serve is signed, so an
 *   untrusted host may choose them
 * @throws GuestError `config-invalid` when the root cannot be read
 */
export async function peerVerifier(
  config: GuestConfig,
  sys: Pick<SysConfig, 'pccsUrl' | 'amdKdsUrl'>,
): Promise<PeerVerifier> {
  const roots = await trustRoots(config.tdxRootFile);
  const collateral = vendorCollateral({
    roots,
    pccs: config.pccsUrl ?? sys.pccsUrl,
    amdKds: config.amdKdsUrl ?? sys.amdKdsUrl,
  });
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

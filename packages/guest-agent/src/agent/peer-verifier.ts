import { readFileBounded, type SysConfig } from '@dstack-cloud/app';
import {
  addRoot,
  type CollateralSource,
  rootCertificate,
  type TrustRoots,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { isThere } from '@dstack-cloud/files';
import { type PeerVerifier, verifyPeerAttestation } from '@dstack-cloud/ra-tls';
import type { GuestConfig } from '../config/guest-config.ts';
import { hasSimulatedTee, simulatedTpmRootFile } from '../config/simulated-roots.ts';
import { GuestError } from '../errors.ts';

const MAX_ROOT_BYTES = 64 * 1024;

/** What the evidence of others is verified by. */
export interface PeerTrust {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
}

/**
 * Whose evidence of other machines is believed: vendor roots, and beside them the roots for simulated hardware, one that the
 * configuration names and, in a machine whose own TEE is simulated, that of its host's vTPMs.
 *
 * @param sys names the services of collateral that the configuration does not; what they serve is signed, so an
 *   untrusted host may choose them
 * @throws GuestError `config-invalid` when the root cannot be read
 */
export async function peerTrustOf(
  config: GuestConfig,
  sys: Pick<SysConfig, 'pccsUrl' | 'amdKdsUrl'>,
): Promise<PeerTrust> {
  let roots = await withRoot(vendorRoots(), 'tdx', config.tdxRootFile);
  const vtpms = simulatedTpmRootFile(config);
  if (hasSimulatedTee(config) && isThere(vtpms)) roots = await withRoot(roots, 'gcp_tpm', vtpms);
  const collateral = vendorCollateral({
    roots,
    pccs: config.pccsUrl ?? sys.pccsUrl,
    amdKds: config.amdKdsUrl ?? sys.amdKdsUrl,
  });
  return { roots, collateral };
}

/** Verifies the certificates of other machines. */
export function peerVerifier({ roots, collateral }: PeerTrust): PeerVerifier {
  return (certificate) =>
    verifyPeerAttestation(certificate, {
      ...{ roots, collateral, now: Math.floor(Date.now() / 1000) },
      // Google endorses the firmware of its own machines alone.
      platform: { gcpFirmwareEndorsement: 'vendor' },
    });
}

async function withRoot(
  roots: TrustRoots,
  name: 'tdx' | 'gcp_tpm',
  file: string | undefined,
): Promise<TrustRoots> {
  if (file === undefined) return roots;
  try {
    return addRoot(roots, name, rootCertificate(await readFileBounded(file, MAX_ROOT_BYTES)));
  } catch (cause) {
    throw new GuestError('config-invalid', `attestation.root_ca.${name}: ${file} is no certificate`, {
      cause,
    });
  }
}

import { readFileSync } from 'node:fs';
import {
  type CollateralSource,
  type TrustRoot,
  type TrustRoots,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { decodePem, equalBytes } from '@dstack-cloud/encoding';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import { vendorCollateral } from './vendor-collateral.ts';

/** What evidence is judged with. */
export type Trust = {
  readonly roots: TrustRoots;
  readonly collateral: CollateralSource;
  /** A root that is not the vendor's is configured: every answer says so. */
  readonly simulated: boolean;
};

/** Trust roots and collateral source as configured (chapter 10 section 7.2). @throws KmsError `config-invalid` */
export function loadTrust(config: KmsConfig): Trust {
  const { root_ca: files } = config.core.attestation;
  const vendor = vendorRoots();
  const roots: TrustRoots = {
    tdx: withFile(vendor.tdx, 'tdx', files.tdx),
    gcpTpm: withFile(vendor.gcpTpm, 'gcp_tpm', files.gcp_tpm),
    nitro: withFile(vendor.nitro, 'aws_nitro_enclave', files.aws_nitro_enclave),
    nitroTpm: withFile(vendor.nitroTpm, 'aws_nitro_tpm', files.aws_nitro_tpm),
    sevSnp: {
      milan: withFile(vendor.sevSnp.milan, 'sev_snp_milan', files.sev_snp_milan),
      genoa: withFile(vendor.sevSnp.genoa, 'sev_snp_genoa', files.sev_snp_genoa),
      turin: withFile(vendor.sevSnp.turin, 'sev_snp_turin', files.sev_snp_turin),
    },
  };
  const all = [
    ...roots.tdx,
    ...roots.gcpTpm,
    ...roots.nitro,
    ...roots.nitroTpm,
    ...Object.values(roots.sevSnp).flat(),
  ];
  return {
    roots,
    simulated: all.some((root) => root.simulated),
    collateral: vendorCollateral(config),
  };
}

/** One more root from a PEM or DER file; marked simulated unless it is the vendor's own. */
function withFile(
  vendor: readonly TrustRoot[],
  name: string,
  file: string | undefined,
): readonly TrustRoot[] {
  if (file === undefined) return vendor;
  const der = readCertificate(name, file);
  if (vendor.some((root) => equalBytes(root.der, der))) return vendor;
  return [...vendor, { name: `configured ${name} root`, der, simulated: true }];
}

function readCertificate(name: string, file: string): Uint8Array {
  try {
    const bytes = readFileSync(file);
    const text = bytes.toString('latin1');
    return text.includes('-----BEGIN') ? decodePem(text, 'CERTIFICATE') : new Uint8Array(bytes);
  } catch (cause) {
    throw new KmsError('config-invalid', `core.attestation.root_ca.${name}: "${file}" is no certificate`, {
      cause,
    });
  }
}

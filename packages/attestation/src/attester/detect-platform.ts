import { readFileSync } from 'node:fs';
import { isThere } from '@dstack-cloud/files';
import type { AttestationMode } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** The paths that tell platforms apart; a test gives its own. */
export interface PlatformPaths {
  readonly nsm: string;
  readonly tdxGuest: string;
  readonly sevGuest: string;
  readonly productName: string;
  readonly sysVendor: string;
  /** TPM devices in order of preference. */
  readonly tpm: readonly string[];
  /** Entries of configfs-tsm. */
  readonly tsmReports: string;
  /** Measurement registers in sysfs. */
  readonly rtmrs: string;
  readonly ccel: string;
  readonly tpmEventLog: string;
}

export const PLATFORM_PATHS: PlatformPaths = {
  nsm: '/dev/nsm',
  tdxGuest: '/dev/tdx_guest',
  sevGuest: '/dev/sev-guest',
  productName: '/sys/class/dmi/id/product_name',
  sysVendor: '/sys/class/dmi/id/sys_vendor',
  tpm: ['/dev/tpmrm0', '/dev/tpm0'],
  tsmReports: '/sys/kernel/config/tsm/report',
  rtmrs: '/sys/devices/virtual/misc/tdx_guest/measurements',
  ccel: '/sys/firmware/acpi/tables/data/CCEL',
  tpmEventLog: '/sys/kernel/security/tpm0/binary_bios_measurements',
};

const GCE = 'Google Compute Engine';
const EC2 = 'Amazon EC2';

/**
 * The platform this guest runs on (docs/protocol/evidence.md section 12.1): the NSM device, then the names in DMI, then
 * the devices.
 * @throws AttestationError `unsupported` when no attestation hardware is found
 */
export function detectPlatform(paths: PlatformPaths = PLATFORM_PATHS): AttestationMode {
  if (isThere(paths.nsm)) return 'dstack-nitro-enclave';
  const product = dmi(paths.productName);
  const vendor = dmi(paths.sysVendor);
  if (product === GCE) {
    if (isThere(paths.tdxGuest)) return 'dstack-gcp-tdx';
    throw unsupported(product, `${paths.tdxGuest} is missing: this machine is no TDX confidential VM`);
  }
  if (vendor === EC2) {
    if (paths.tpm.some((path) => isThere(path))) return 'dstack-aws-nitro-tpm';
    throw unsupported(vendor, `${paths.tpm.join(' and ')} are missing: this machine has no NitroTPM`);
  }
  if (isThere(paths.tdxGuest)) return 'dstack-tdx';
  if (isThere(paths.sevGuest)) return 'dstack-amd-sev-snp';
  throw unsupported(product, `neither ${paths.tdxGuest} nor ${paths.sevGuest} nor ${paths.nsm} is there`);
}

/**
 * Whether this is a machine of Google Cloud, by its product name. The host writes it: who lies gets evidence that does not
 * verify.
 * @throws AttestationError `device` when it cannot be read
 */
export function isOnGce(productName: string): boolean {
  return dmi(productName) === GCE;
}

function unsupported(found: string, reason: string): AttestationError {
  return new AttestationError('unsupported', `No attestation hardware found: ${reason}`, { found });
}

/** A DMI field, trimmed; empty where there is none. One that cannot be read would have the platform taken for another. */
function dmi(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new AttestationError('device', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

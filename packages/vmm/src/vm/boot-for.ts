import type { KeyProviderKind } from '@dstack-cloud/app';
import type { VmOptions } from '../manifest/vm-settings.ts';

/**
 * How a machine boots whose keys come from this provider. A TPM gives a seed to a measured system alone: firmware has to
 * start the image's disk and measure it into the TPM, which takes longer than a kernel that the host loads.
 */
export function bootFor(keyProvider: KeyProviderKind): Pick<VmOptions, 'boot' | 'tpm'> {
  return keyProvider === 'tpm' ? { boot: 'disk', tpm: 'swtpm' } : {};
}

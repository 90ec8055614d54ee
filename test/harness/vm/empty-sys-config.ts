import { serializeSysConfig } from '@dstack-cloud/app';

/** What the host says to a machine that needs nothing of it: no key service, no collateral, no mirror. */
export function emptySysConfig(): Uint8Array {
  return serializeSysConfig({
    kmsUrls: [],
    gatewayUrls: [],
    pccsUrl: undefined,
    dockerRegistry: undefined,
    hostApiUrl: undefined,
    vmConfig: '{}',
  });
}

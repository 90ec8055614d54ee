import type { AppInfo } from '@dstack-cloud/ra-tls';

/**
 * What the guest can say about itself from its own, unverified attestation (docs/protocol/guest-agent.md section 4.6).
 */
export interface LocalFacts {
  /** As in extension .9; the device id is that of an unverified attestation. */
  readonly appInfo: AppInfo;
  /** JSON text of the key-provider event. */
  readonly keyProviderInfo: string;
  /** Pretty JSON, the member `tcb_info` of Info. */
  readonly tcbInfo: string;
}

import type { AppCompose, AppKeysFile } from '@dstack-cloud/app';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import type { GuestConfig } from '../config/guest-config.ts';
import type { Logger } from '../log.ts';
import type { CertificateSigner } from './certificate-signer.ts';
import type { LocalEvidence } from './local-evidence.ts';

/** What all listeners of one guest agent share. */
export interface Agent {
  readonly config: GuestConfig;
  readonly keys: AppKeysFile;
  readonly compose: AppCompose;
  /** app-compose.json as it was measured. */
  readonly composeText: string;
  /** `vm_config` of the sys-config, passed on as it is. */
  readonly vmConfig: string;
  readonly device: EvidenceDevice;
  /** True when evidence comes from a recorded fixture: nothing is stripped, as the original's simulator does. */
  readonly fixture: boolean;
  readonly local: LocalEvidence;
  readonly signer: CertificateSigner;
  readonly demoCertificate: DemoCertificate;
  readonly log: Logger;
  /** Unix seconds. */
  readonly now: () => number;
}

/** The certificate shown as `app_cert`; issued in the background until it succeeds. */
export interface DemoCertificate {
  /** PEM chain; empty until issued. Asking for it starts the next attempt. */
  current(): string;
}

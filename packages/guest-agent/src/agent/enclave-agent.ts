import { parseAppCompose, parseAppKeys } from '@dstack-cloud/app';
import { EVENT } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import type { Dial } from '@dstack-cloud/ra-tls';
import { parseGuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { CreatedAgent } from './create-agent.ts';
import { attestKeys, BackgroundDemoCertificate } from './demo-certificate.ts';
import { kmsSigner } from './kms-signer.ts';
import { LocalEvidence } from './local-evidence.ts';

/** A proxy, a tunnel and a handshake. */
const CONNECT_TIMEOUT_MS = 30_000;
/** The document of an enclave is refused when it is older than five minutes. */
const MAX_CONNECTION_AGE_MS = 120_000;

/** What an agent in an enclave is made with. */
export interface EnclaveAgentOptions {
  /** Text of the key file, which the KMS released to this enclave. */
  readonly keys: string;
  /** 20 bytes: the application that asked for the keys. */
  readonly appId: Uint8Array;
  readonly device: EvidenceDevice;
  /** The way to the KMS, through the host's proxy. */
  readonly dial: Dial;
  /** Path of the socket. */
  readonly socket: string;
  /** Path of the socket for clients of the older service. */
  readonly tappdSocket: string;
  readonly log: Logger;
}

/**
 * The agent of a Nitro enclave. There is no boot and no app-compose.json: the image is the application, and the keys are
 * those that its init got.
 *
 * @throws GuestError `not-available` for keys that no KMS released
 */
export async function createEnclaveAgent(options: EnclaveAgentOptions): Promise<CreatedAgent> {
  const { appId, device, dial, socket, tappdSocket, log } = options;
  const keys = parseAppKeys(Buffer.from(options.keys));
  const { keyProvider, caCert } = keys;
  if (keyProvider.kind !== 'kms')
    throw new GuestError('not-available', 'The agent of an enclave needs keys of a KMS', {
      expected: 'key provider kms',
      found: keyProvider.kind,
    });
  // Kept when it says the same as before: it is what the KMS saw.
  await device.emitEvent({ event: EVENT.appId, payload: appId });
  const now = (): number => Math.floor(Date.now() / 1000);
  const signer = kmsSigner({
    provider: keyProvider,
    caCert,
    device,
    vmConfig: '',
    // The root is pinned in the measured image, and there is no way from here to the collateral of a verdict.
    evidence: 'ignore',
    wantsNonce: true,
    dial,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    maxAgeMs: MAX_CONNECTION_AGE_MS,
    now,
  });
  const listen = { dstack_sock: socket, tappd_sock: tappdSocket, external: null };
  return {
    agent: {
      config: parseGuestConfig(JSON.stringify({ listen, allow_app_events: false }), '/'),
      keys,
      compose: parseAppCompose(JSON.stringify({ manifest_version: 2, name: '', runner: 'bash' })),
      composeText: '',
      vmConfig: '',
      device,
      fixture: false,
      local: new LocalEvidence(device, ''),
      signer,
      demoCertificate: new BackgroundDemoCertificate(signer, attestKeys(device), log),
      log,
      now,
    },
    close: async () => {
      signer.close();
      await device.close?.();
    },
  };
}

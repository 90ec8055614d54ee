import { EVENT, systemPayloads, type VerifiedAttestation } from '@dstack-cloud/attestation';

/** Payloads of the init script events that the system measured, in order. */
export function findInitScripts({ runtimeEvents }: VerifiedAttestation): Uint8Array[] {
  return systemPayloads(runtimeEvents, EVENT.initScriptHash);
}

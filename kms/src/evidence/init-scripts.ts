import { EVENT } from '@dstack-cloud/app';
import type { VerifiedAttestation } from '@dstack-cloud/attestation';

/** Payloads of the init script events before `system-ready`, in order (chapter 10 section 3.5). */
export function findInitScripts({ runtimeEvents }: VerifiedAttestation): Uint8Array[] {
  const ready = runtimeEvents.findIndex(({ event }) => event === EVENT.systemReady);
  const boot = ready < 0 ? runtimeEvents : runtimeEvents.slice(0, ready);
  return boot.filter(({ event }) => event === EVENT.initScriptHash).map(({ payload }) => payload);
}

import { createHash } from 'node:crypto';
import { replayRuntimeEvents, type VerifiedAttestation } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';

/** What is fixed from the boot on, by kind of evidence. What a running workload may extend says nothing of who it is. */
const REGISTERS: Readonly<Record<VerifiedAttestation['evidence']['kind'], readonly string[]>> = {
  tdx: ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'mrconfigid', 'mrowner', 'mrownerconfig'],
  'gcp-tdx': ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'pcr0', 'pcr2'],
  nitro: ['pcr0', 'pcr1', 'pcr2'],
  'nitro-tpm': ['pcr4', 'pcr7', 'pcr12'],
  'sev-snp': ['measurement', 'host_data'],
};
/** Kinds whose runtime events are measured; the system's are, up to this one, those of the boot. */
const MEASURES_EVENTS: readonly string[] = ['tdx', 'gcp-tdx', 'nitro-tpm'];
const END_OF_BOOT = 'boot-mr-done';

/**
 * One workload on one machine, by what the hardware says of both: measurements of the boot, and the hardware's own
 * name. Nothing that a workload says of itself without being measured is in it, so that nobody is taken for another,
 * and nobody is many.
 */
export function workloadOf({
  mode,
  evidence,
  registers,
  rawDeviceId,
  runtimeEvents,
}: VerifiedAttestation): string {
  const { kind } = evidence;
  // Every enclave has the same `rawDeviceId`; its module id names machine and enclave.
  const hardware = evidence.kind === 'nitro' ? utf8(evidence.moduleId) : rawDeviceId;
  const events = MEASURES_EVENTS.includes(kind)
    ? replayRuntimeEvents(runtimeEvents, 'sha384', { until: END_OF_BOOT })
    : new Uint8Array();
  const digest = createHash('sha256');
  for (const part of [utf8(mode), hardware, events, ...REGISTERS[kind].map((name) => registers[name])]) {
    const { length } = part ?? [];
    digest.update(`${length}:`).update(part ?? '');
  }
  return digest.digest('base64');
}

import { bootInfo, inspectAttestation, reportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { Place } from '../platforms/platform.ts';
import { getEvidence } from '../verify/evidence.ts';
import { loadTrust } from '../verify/trust.ts';

/**
 * The device that a running machine proves to be on: SHA-256 of its hardware id, 64 hex digits. A guest cannot know it
 * by itself (chapter 20 section 6), and contracts are given it, so it comes from verified evidence only.
 *
 * @throws AttestationError or CliError: why it is not known
 */
export async function deviceId(place: Place, agent: string): Promise<string> {
  const { attestation, nonce } = await getEvidence(agent, place.context.directory);
  const { roots, collateral } = await loadTrust(place.context, place.config);
  const inspection = await inspectAttestation(attestation, {
    roots,
    collateral,
    now: Math.floor(place.context.now().getTime() / 1000),
    ...(nonce === undefined
      ? {}
      : { expectedReportData: reportData({ tag: 'dstack-public-attestation', content: nonce }) }),
  });
  if (!inspection.ok) throw inspection.error;
  return toHex(bootInfo(inspection.verified, { bootTime: false }).deviceId);
}

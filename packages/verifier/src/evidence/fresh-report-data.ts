import { reportData } from '@dstack-cloud/attestation';

/**
 * What the evidence of a guest agent's `/attestation?nonce=…` carries: a hash under a tag of its own, so that nobody
 * can have other report data signed that way (docs/protocol/guest-agent.md section 4.3).
 * @param nonce up to 64 bytes
 * @returns 64 bytes
 */
export function freshReportData(nonce: Uint8Array): Uint8Array {
  return reportData({ tag: 'dstack-public-attestation', content: nonce });
}

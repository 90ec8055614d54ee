import {
  AttestationError,
  parseCoseSign1,
  parseNitroDocument,
  parseTdxQuote,
  parseTpmsAttest,
} from '@dstack-cloud/attestation';
import { isZero } from '@dstack-cloud/encoding';
import type { Evidence } from './evidence.ts';

/** The mode of the evidence: dstack's name for attestations, the platform's for bare evidence. */
export function modeOf(evidence: Evidence): string {
  switch (evidence.kind) {
    case 'attestation':
      return evidence.attestation.quote.mode;
    case 'quote':
      // The TEE type, little-endian; what is too short for one is refused when it is read.
      return evidence.quote.length >= 8 && isZero(evidence.quote.subarray(4, 8)) ? 'sgx' : 'tdx';
    case 'nitro-document':
      return 'nitro-enclave';
    case 'nitro-tpm-document':
      return 'aws-nitro-tpm';
    case 'snp-report':
      return 'amd-sev-snp';
    case 'gcp-vtpm':
      return 'gcp-vtpm';
  }
}

/** The report data that evidence claims, as far as it can be read; nothing vouches for it. */
export function claimedReportData(evidence: Evidence): Uint8Array | undefined {
  try {
    switch (evidence.kind) {
      case 'attestation':
        return evidence.attestation.reportData;
      case 'quote': {
        const { td, enclave } = parseTdxQuote(evidence.quote);
        return td?.reportData ?? enclave?.reportData;
      }
      case 'nitro-document':
        return parseNitroDocument(parseCoseSign1(evidence.document).payload, 'nsm').userData;
      case 'nitro-tpm-document':
        return parseNitroDocument(parseCoseSign1(evidence.document).payload, 'nitro-tpm').userData;
      case 'snp-report':
        return evidence.report.subarray(0x50, 0x90);
      case 'gcp-vtpm':
        return parseTpmsAttest(evidence.tpm.message).extraData;
    }
  } catch (error) {
    if (error instanceof AttestationError) return undefined;
    throw error;
  }
}

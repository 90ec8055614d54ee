import { encodeMsgpack } from '@dstack-cloud/encoding';
import type { Attestation, AttestationQuote, RuntimeEvent, TdxEvent, TpmQuote } from '../attestation.ts';
import { TPM_PLATFORM_NAMES } from './msgpack-v1.ts';

/**
 * Writes the MessagePack form: plain byte vectors as arrays, fields with a bytes adapter as bin
 * (docs/protocol/evidence.md section 4.1).
 */
export function writeMsgpackAttestation(attestation: Attestation): Uint8Array {
  const isPod = attestation.reportDataPayload !== undefined;
  return encodeMsgpack({
    version: 1,
    platform: platform(attestation.quote),
    stack: {
      kind: isPod ? 'dstack-pod' : 'dstack',
      data: {
        report_data: numbers(attestation.reportData),
        runtime_events: attestation.runtimeEvents.map(runtimeEvent),
        config: attestation.config,
        ...(isPod ? { report_data_payload: attestation.reportDataPayload } : {}),
      },
    },
  });
}

function platform(quote: AttestationQuote): object {
  switch (quote.mode) {
    case 'dstack-tdx':
      return { kind: 'tdx', data: { quote: numbers(quote.quote), event_log: quote.eventLog.map(tdxEvent) } };
    case 'dstack-gcp-tdx':
      return {
        kind: 'gcp-tdx',
        data: {
          quote: numbers(quote.quote),
          event_log: quote.eventLog.map(tdxEvent),
          tpm_quote: tpmQuote(quote.tpmQuote),
        },
      };
    case 'dstack-nitro-enclave':
      return { kind: 'nitro-enclave', data: { nsm_quote: numbers(quote.nsmQuote) } };
    case 'dstack-amd-sev-snp':
      return {
        kind: 'sev-snp',
        data: {
          report: numbers(quote.report),
          cert_chain: quote.certChain.map(numbers),
          mr_config: quote.mrConfig,
        },
      };
    case 'dstack-aws-nitro-tpm':
      return { kind: 'aws-nitro-tpm', data: { attestation_doc: numbers(quote.attestationDoc) } };
  }
}

function tdxEvent(event: TdxEvent): object {
  return {
    imr: event.imr,
    event_type: event.eventType,
    digest: event.digest,
    event: event.event,
    event_payload: event.eventPayload,
    ...(event.version === undefined ? {} : { version: event.version }),
    ...(event.preimage === undefined ? {} : { preimage: event.preimage }),
  };
}

function runtimeEvent(event: RuntimeEvent): object {
  const { event: name, payload, version } = event;
  return version === undefined ? { event: name, payload } : { event: name, payload, version };
}

function tpmQuote(quote: TpmQuote): object {
  return {
    message: quote.message,
    signature: quote.signature,
    pcr_values: quote.pcrValues.map(({ index, algorithm, value }) => ({ index, algorithm, value })),
    ak_cert: quote.akCert,
    platform: TPM_PLATFORM_NAMES[quote.platform],
    event_log: quote.eventLog.map((event) => ({ pcr_index: event.pcrIndex, digest: event.digest })),
  };
}

function numbers(bytes: Uint8Array): number[] {
  return Array.from(bytes);
}

import { MsgpackView } from '@dstack-cloud/encoding';
import type {
  Attestation,
  AttestationQuote,
  PcrValue,
  RuntimeEvent,
  TdxEvent,
  TpmEvent,
  TpmPlatform,
  TpmQuote,
} from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { LIMITS } from './limits.ts';
import { MsgpackFields } from './msgpack-fields.ts';

/** Texts of TpmQuote.platform; the index is the SCALE byte. */
export const TPM_PLATFORM_NAMES = ['dstack', 'gcp', 'nitroenclave', 'aws-ec2'] as const;

/**
 * Bounds of the text before anything is read of it: no map of the format has more than seven members, byte strings may be
 * arrays of numbers.
 */
export const MSGPACK_SHAPE = { maxDepth: 8, maxValues: 262_144, maxKeys: 16 } as const;

/** Reads the MessagePack form (docs/protocol/evidence.md section 4.1). @throws EncodingError, AttestationError */
export function readMsgpackAttestation(bytes: Uint8Array): Attestation {
  const root = new MsgpackFields(MsgpackView.of(bytes, MSGPACK_SHAPE), 'attestation');
  root.only('version', 'platform', 'stack');
  const version = root.integer('version');
  if (version !== 1) {
    throw new AttestationError('unsupported', 'Attestation version', { expected: '1', found: `${version}` });
  }
  const platform = root.object('platform').only('kind', 'data');
  const stack = root.object('stack').only('kind', 'data');
  const kind = stack.text('kind', 64);
  if (kind !== 'dstack' && kind !== 'dstack-pod') {
    throw new AttestationError('unsupported', `Unknown stack "${kind}"`, { found: kind });
  }
  const data = stack.object('data');
  data.only(
    'report_data',
    'runtime_events',
    'config',
    ...(kind === 'dstack-pod' ? ['report_data_payload'] : []),
  );
  const attestation: Attestation = {
    quote: readPlatform(platform.text('kind', 64), platform.object('data')),
    runtimeEvents: data.objects('runtime_events', LIMITS.events, readRuntimeEvent),
    reportData: data.bytes('report_data', 64),
    config: data.text('config', LIMITS.configBytes),
  };
  if (attestation.reportData.length !== 64) {
    throw new AttestationError('malformed', 'report_data must have 64 bytes', {
      found: `${attestation.reportData.length}`,
    });
  }
  if (kind === 'dstack') return attestation;
  return { ...attestation, reportDataPayload: data.text('report_data_payload', LIMITS.payloadBytes) };
}

function readPlatform(kind: string, data: MsgpackFields): AttestationQuote {
  switch (kind) {
    case 'tdx':
      data.only('quote', 'event_log');
      return { mode: 'dstack-tdx', ...readTdxQuote(data) };
    case 'gcp-tdx':
      data.only('quote', 'event_log', 'tpm_quote');
      return {
        mode: 'dstack-gcp-tdx',
        ...readTdxQuote(data),
        tpmQuote: readTpmQuote(data.object('tpm_quote')),
      };
    case 'nitro-enclave':
      data.only('nsm_quote');
      return { mode: 'dstack-nitro-enclave', nsmQuote: data.bytes('nsm_quote', LIMITS.quoteBytes) };
    case 'aws-nitro-tpm':
      data.only('attestation_doc');
      return {
        mode: 'dstack-aws-nitro-tpm',
        attestationDoc: data.bytes('attestation_doc', LIMITS.quoteBytes),
      };
    case 'sev-snp':
      data.only('report', 'cert_chain', 'mr_config');
      return {
        mode: 'dstack-amd-sev-snp',
        report: data.bytes('report', LIMITS.quoteBytes),
        certChain: data.byteList('cert_chain', LIMITS.certificates, LIMITS.certificateBytes),
        mrConfig: data.text('mr_config', LIMITS.mrConfigBytes),
      };
    default:
      throw new AttestationError('unsupported', `Unknown platform "${kind}"`, { found: kind });
  }
}

function readTdxQuote(data: MsgpackFields) {
  return {
    quote: data.bytes('quote', LIMITS.quoteBytes),
    eventLog: data.objects('event_log', LIMITS.events, readTdxEvent),
  };
}

function readTdxEvent(fields: MsgpackFields): TdxEvent {
  fields.only('imr', 'event_type', 'digest', 'event', 'event_payload', 'version', 'preimage');
  return {
    imr: fields.integer('imr'),
    eventType: fields.integer('event_type'),
    digest: fields.bytes('digest', LIMITS.digestBytes),
    event: fields.text('event', LIMITS.eventNameBytes),
    eventPayload: fields.bytes('event_payload', LIMITS.payloadBytes),
    ...readVersion(fields),
    ...(fields.has('preimage') ? { preimage: fields.text('preimage', 4 * LIMITS.payloadBytes) } : {}),
  };
}

function readRuntimeEvent(fields: MsgpackFields): RuntimeEvent {
  fields.only('event', 'payload', 'version');
  return {
    event: fields.text('event', LIMITS.eventNameBytes),
    payload: fields.bytes('payload', LIMITS.payloadBytes),
    ...readVersion(fields),
  };
}

/** Absent means version 1; any other number than 2 is refused. */
function readVersion(fields: MsgpackFields): { version?: 2 } {
  if (!fields.has('version')) return {};
  const version = fields.integer('version');
  if (version === 2) return { version };
  throw new AttestationError('unsupported', 'Event version', {
    expected: 'absent or 2',
    found: `${version}`,
  });
}

function readTpmQuote(fields: MsgpackFields): TpmQuote {
  fields.only('message', 'signature', 'pcr_values', 'ak_cert', 'platform', 'event_log');
  return {
    message: fields.bytes('message', LIMITS.quoteBytes),
    signature: fields.bytes('signature', LIMITS.quoteBytes),
    pcrValues: fields.objects('pcr_values', LIMITS.pcrValues, readPcrValue),
    akCert: fields.bytes('ak_cert', LIMITS.certificateBytes),
    platform: readTpmPlatform(fields.text('platform', 64)),
    eventLog: fields.objects('event_log', LIMITS.tpmEvents, readTpmEvent),
  };
}

function readPcrValue(fields: MsgpackFields): PcrValue {
  fields.only('index', 'algorithm', 'value');
  return {
    index: fields.integer('index'),
    algorithm: fields.text('algorithm', 64),
    value: fields.bytes('value', LIMITS.digestBytes),
  };
}

function readTpmEvent(fields: MsgpackFields): TpmEvent {
  fields.only('pcr_index', 'digest');
  return { pcrIndex: fields.integer('pcr_index'), digest: fields.bytes('digest', LIMITS.digestBytes) };
}

function readTpmPlatform(name: string): TpmPlatform {
  const index = (TPM_PLATFORM_NAMES as readonly string[]).indexOf(name);
  if (index >= 0) return index as TpmPlatform;
  throw new AttestationError('unsupported', `Unknown TPM platform "${name}"`, { found: name });
}

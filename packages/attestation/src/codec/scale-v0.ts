import { ScaleReader } from '@dstack-cloud/encoding';
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

/**
 * Reads the SCALE form after its version byte (docs/protocol/evidence.md section 3.2).
 * @throws EncodingError, AttestationError
 */
export function readScaleAttestation(bytes: Uint8Array): Attestation {
  const reader = new ScaleReader(bytes);
  const attestation: Attestation = {
    quote: readQuote(reader),
    runtimeEvents: reader.vec(() => readRuntimeEvent(reader), LIMITS.events),
    reportData: reader.fixed(64),
    config: reader.string(LIMITS.configBytes),
  };
  reader.finish();
  return attestation;
}

function readQuote(reader: ScaleReader): AttestationQuote {
  const variant = reader.u8();
  switch (variant) {
    case 0:
      return { mode: 'dstack-tdx', ...readTdxQuote(reader) };
    case 1:
      return { mode: 'dstack-gcp-tdx', ...readTdxQuote(reader), tpmQuote: readTpmQuote(reader) };
    case 2:
      return { mode: 'dstack-nitro-enclave', nsmQuote: reader.bytes(LIMITS.quoteBytes) };
    case 3:
      return {
        mode: 'dstack-amd-sev-snp',
        report: reader.bytes(LIMITS.quoteBytes),
        certChain: reader.vec(() => reader.bytes(LIMITS.certificateBytes), LIMITS.certificates),
        mrConfig: reader.string(LIMITS.mrConfigBytes),
      };
    case 4:
      return { mode: 'dstack-aws-nitro-tpm', attestationDoc: reader.bytes(LIMITS.quoteBytes) };
    default:
      throw new AttestationError('unsupported', `Unknown quote variant ${variant}`, {
        expected: '0 to 4',
        found: `${variant}`,
      });
  }
}

function readTdxQuote(reader: ScaleReader) {
  const quote = reader.bytes(LIMITS.quoteBytes);
  return { quote, eventLog: reader.vec(() => readTdxEvent(reader), LIMITS.events) };
}

function readTdxEvent(reader: ScaleReader): TdxEvent {
  return {
    imr: reader.u32(),
    eventType: reader.u32(),
    digest: reader.bytes(LIMITS.digestBytes),
    event: reader.string(LIMITS.eventNameBytes),
    eventPayload: reader.bytes(LIMITS.payloadBytes),
  };
}

function readRuntimeEvent(reader: ScaleReader): RuntimeEvent {
  return { event: reader.string(LIMITS.eventNameBytes), payload: reader.bytes(LIMITS.payloadBytes) };
}

function readTpmQuote(reader: ScaleReader): TpmQuote {
  return {
    message: reader.bytes(LIMITS.quoteBytes),
    signature: reader.bytes(LIMITS.quoteBytes),
    pcrValues: reader.vec(() => readPcrValue(reader), LIMITS.pcrValues),
    akCert: reader.bytes(LIMITS.certificateBytes),
    platform: readPlatform(reader),
    eventLog: reader.vec(() => readTpmEvent(reader), LIMITS.tpmEvents),
  };
}

function readPcrValue(reader: ScaleReader): PcrValue {
  return { index: reader.u32(), algorithm: reader.string(64), value: reader.bytes(LIMITS.digestBytes) };
}

function readTpmEvent(reader: ScaleReader): TpmEvent {
  return { pcrIndex: reader.u32(), digest: reader.bytes(LIMITS.digestBytes) };
}

function readPlatform(reader: ScaleReader): TpmPlatform {
  const platform = reader.u8();
  if (platform <= 3) return platform as TpmPlatform;
  throw new AttestationError('unsupported', `Unknown TPM platform ${platform}`, { found: `${platform}` });
}

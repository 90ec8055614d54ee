import { ScaleWriter } from '@dstack-cloud/encoding';
import type { Attestation, AttestationQuote, TdxEvent, TpmQuote } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** Writes the SCALE form with its version byte. @throws AttestationError `unsupported` */
export function writeScaleAttestation(attestation: Attestation): Uint8Array {
  if (attestation.reportDataPayload !== undefined) throw cannot('the stack dstack-pod');
  if (attestation.reportData.length !== 64) {
    throw new AttestationError('malformed', 'Report data must have 64 bytes');
  }
  const writer = new ScaleWriter().u8(0);
  writeQuote(writer, attestation.quote);
  writer.vec(attestation.runtimeEvents, (event) => {
    if (event.version !== undefined) throw cannot('events of version 2');
    writer.string(event.event).bytes(event.payload);
  });
  return writer.fixed(attestation.reportData).string(attestation.config).finish();
}

function writeQuote(writer: ScaleWriter, quote: AttestationQuote): void {
  switch (quote.mode) {
    case 'dstack-tdx':
      writer
        .u8(0)
        .bytes(quote.quote)
        .vec(quote.eventLog, (event) => writeTdxEvent(writer, event));
      return;
    case 'dstack-gcp-tdx':
      writer
        .u8(1)
        .bytes(quote.quote)
        .vec(quote.eventLog, (event) => writeTdxEvent(writer, event));
      writeTpmQuote(writer, quote.tpmQuote);
      return;
    case 'dstack-nitro-enclave':
      writer.u8(2).bytes(quote.nsmQuote);
      return;
    case 'dstack-amd-sev-snp':
      writer
        .u8(3)
        .bytes(quote.report)
        .vec(quote.certChain, (item) => writer.bytes(item));
      writer.string(quote.mrConfig);
      return;
    case 'dstack-aws-nitro-tpm':
      writer.u8(4).bytes(quote.attestationDoc);
  }
}

function writeTdxEvent(writer: ScaleWriter, event: TdxEvent): void {
  if (event.version !== undefined) throw cannot('events of version 2');
  writer
    .u32(event.imr)
    .u32(event.eventType)
    .bytes(event.digest)
    .string(event.event)
    .bytes(event.eventPayload);
}

function writeTpmQuote(writer: ScaleWriter, quote: TpmQuote): void {
  writer
    .bytes(quote.message)
    .bytes(quote.signature)
    .vec(quote.pcrValues, (pcr) => writer.u32(pcr.index).string(pcr.algorithm).bytes(pcr.value))
    .bytes(quote.akCert)
    .u8(quote.platform)
    .vec(quote.eventLog, (event) => writer.u32(event.pcrIndex).bytes(event.digest));
}

function cannot(what: string): AttestationError {
  return new AttestationError('unsupported', `Version 0 of an attestation cannot carry ${what}`);
}

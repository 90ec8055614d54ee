/** Evidence that costs whoever makes it nothing: no hardware signed it, and no part of it can be fetched. */
import { createHash, randomBytes } from 'node:crypto';
import type { Attestation } from '@dstack-cloud/attestation';
import { concatBytes } from '@dstack-cloud/encoding';

const HEADER = 48;
const SIGNED = 632;
const TD_REPORT_DATA = 520;
const PPID_BYTES = 384 + 20;

/** Offsets of an SEV-SNP report (AMD 56860, table "ATTESTATION_REPORT Structure"). */
const SNP = { algorithm: 0x34, reportData: 0x50, hostData: 0xc0, cpuid: 0x188, chipId: 0x1a0, bytes: 1184 };
const MR_CONFIG = JSON.stringify({ compose_hash: '22'.repeat(32), key_provider: 'none', version: 3 });

/**
 * A TDX quote that is all zero but for header and report data. It names its PCK certificate by an encrypted PPID, so
 * that somebody would have to be asked for it.
 * @param quote any quote, for its header
 */
export function zeroQuote(quote: Uint8Array, reportData: Uint8Array): Attestation {
  const signed = new Uint8Array(SIGNED);
  signed.set(quote.subarray(0, HEADER));
  signed.set(reportData, HEADER + TD_REPORT_DATA);
  const authData = concatBytes(u16(32), new Uint8Array(32));
  const ppid = concatBytes(u16(3), u32(PPID_BYTES), randomBytes(PPID_BYTES));
  const qe = concatBytes(new Uint8Array(384 + 64), authData, ppid);
  const signature = concatBytes(new Uint8Array(128), u16(6), u32(qe.length), qe);
  return attestationOf(
    { mode: 'dstack-tdx', quote: concatBytes(signed, u32(signature.length), signature), eventLog: [] },
    reportData,
  );
}

/** An SEV-SNP report of a chip that nobody made, without its certificates. */
export function bareReport(reportData: Uint8Array): Attestation {
  const report = new Uint8Array(SNP.bytes);
  report.set(u32(3));
  report.set(u32(1), SNP.algorithm);
  report.set(reportData, SNP.reportData);
  report.set(createHash('sha256').update(`dstack-mr-config-v3:\0${MR_CONFIG}`).digest(), SNP.hostData);
  report.set([0x19, 0x01, 0x01], SNP.cpuid);
  report.set(randomBytes(64), SNP.chipId);
  return attestationOf(
    { mode: 'dstack-amd-sev-snp', report, certChain: [], mrConfig: MR_CONFIG },
    reportData,
  );
}

function attestationOf(quote: Attestation['quote'], reportData: Uint8Array): Attestation {
  return { quote, runtimeEvents: [], reportData, config: '{}' };
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >> 8);
}

function u32(value: number): Uint8Array {
  return concatBytes(u16(value & 0xffff), u16(value >>> 16));
}

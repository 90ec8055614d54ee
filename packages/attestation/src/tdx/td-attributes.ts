import { isZero, toHex } from '@dstack-cloud/encoding';
import type { CheckRecorder } from '../check-recorder.ts';
import type { EnclaveReport, TdReport } from '../tdx-quote/reports.ts';

// TDATTRIBUTES (docs/protocol/verification.md section 2.4). 30 PKS, 31 KL and 63 PERFMON may be set.
const DEBUG = 1n;
const SEPT_VE_DISABLE = 1n << 28n;
const RESERVED =
  bits(1, 7) | // TUD
  bits(8, 27) | // SEC
  bits(29, 29) |
  bits(32, 62); // OTHER
const REFERENCE = 'docs/protocol/verification.md section 2.4';

/** @throws AttestationError `debug`, `attributes` */
export function checkTdAttributes(td: TdReport, allowServiceTd: boolean, checks: CheckRecorder): void {
  const { buffer, byteOffset } = td.tdAttributes;
  const attributes = new DataView(buffer, byteOffset, 8).getBigUint64(0, true);
  checks.require((attributes & DEBUG) === 0n, {
    id: 'tdx.debug',
    reference: REFERENCE,
    code: 'debug',
    message: 'The TD runs in debug mode: the host can read its memory',
    expected: 'DEBUG 0',
    found: () => toHex(td.tdAttributes),
  });
  checks.require((attributes & RESERVED) === 0n && (attributes & SEPT_VE_DISABLE) !== 0n, {
    id: 'tdx.attributes',
    reference: REFERENCE,
    code: 'attributes',
    message: 'TDATTRIBUTES are not those of a production TD',
    expected: 'reserved bits 0, SEPT_VE_DISABLE 1',
    found: () => toHex(td.tdAttributes),
  });
  checks.require(allowServiceTd || !td.mrServiceTd || isZero(td.mrServiceTd), {
    id: 'tdx.mrservicetd',
    reference: REFERENCE,
    code: 'attributes',
    message: 'A service TD is bound to the TD',
    expected: 'MRSERVICETD 0',
    found: () => toHex(td.mrServiceTd ?? new Uint8Array()),
  });
}

/** @throws AttestationError `debug` */
export function checkEnclaveAttributes(enclave: EnclaveReport, checks: CheckRecorder): void {
  checks.require((enclave.attributes[0]! & 2) === 0, {
    id: 'sgx.debug',
    reference: REFERENCE,
    code: 'debug',
    message: 'The enclave runs in debug mode',
    expected: 'DEBUG 0',
    found: () => toHex(enclave.attributes),
  });
}

function bits(from: number, to: number): bigint {
  return ((1n << BigInt(to - from + 1)) - 1n) << BigInt(from);
}

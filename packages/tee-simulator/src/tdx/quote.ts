import { createHash } from 'node:crypto';
import { ByteWriter, concatBytes, fromHex, padRight, utf8 } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { seededBytes } from '../pki/seeded-key.ts';
import { PLATFORM_TCB, QUOTING_ENCLAVE } from './platform-tcb.ts';
import { PRODUCTION_ATTRIBUTES, type TdState } from './td-state.ts';
import type { TdxPki } from './tdx-pki.ts';

const QE_VENDOR_ID = fromHex('939a7233f79c4ca9940a0db3957f0607');
const TEE_TDX = 0x81;
const TEE_SGX = 0x00;
const KEY_ECDSA_P256 = 2;
const BODY_TD_10 = 2;
const BODY_TD_15 = 3;
const CERTIFICATION_QE_REPORT = 6;
const CERTIFICATION_PCK_CHAIN = 5;
/** SGX ATTRIBUTES, bit 1. */
const ENCLAVE_DEBUG = 2;
const XFAM = fromHex('e700060000000000');

export interface QuoteOptions {
  /** 4 (default): TD report 1.0. 5: a body header, and TD report 1.5 unless `body` says otherwise. */
  readonly version?: 4 | 5;
  readonly body?: '1.0' | '1.5';
}

/** The parts of a quote which no TD changes: QE report and its signature, made once per machine. */
export interface QuotingEnclave {
  quote(reportData: Uint8Array, td: TdState, options?: QuoteOptions): Uint8Array;
  /** An SGX quote (version 3) of another enclave of this machine. */
  enclaveQuote(reportData: Uint8Array, enclave: SimulatedEnclave): Uint8Array;
}

/** An enclave as its report describes it. */
export interface SimulatedEnclave {
  /** 32 bytes. */
  readonly mrEnclave: Uint8Array;
  /** Its report says DEBUG. */
  readonly debug?: boolean;
}

/** The simulated quoting enclave of a machine: signs its attestation key once, then any number of quotes. */
export function quotingEnclave(seed: Uint8Array, pki: TdxPki): QuotingEnclave {
  const authData = seededBytes(seed, 'qe-auth', 32);
  const binding = createHash('sha256').update(pki.attestationKey.publicKey).update(authData).digest();
  const report = enclaveReport(
    { ...QUOTING_ENCLAVE, mrEnclave: seededBytes(seed, 'qe-mrenclave', 32), isvSvn: PLATFORM_TCB.qeIsvSvn },
    padRight(new Uint8Array(binding), 64),
  );
  const chain = utf8(pki.pck.pem + pki.pckCa.pem + pki.root.pem);
  const certification = new ByteWriter()
    .bytes(report)
    .bytes(pki.pck.key.sign(report))
    .u16le(authData.length)
    .bytes(authData)
    .u16le(CERTIFICATION_PCK_CHAIN)
    .u32le(chain.length)
    .bytes(chain)
    .finish();
  const qeId = seededBytes(seed, 'qe-id', 16);
  return {
    quote(reportData, td, options = {}) {
      const signed = signedPart(qeId, reportData, td, options);
      const auth = new ByteWriter()
        .bytes(pki.attestationKey.sign(signed))
        .bytes(pki.attestationKey.publicKey)
        .u16le(CERTIFICATION_QE_REPORT)
        .u32le(certification.length)
        .bytes(certification)
        .finish();
      return new ByteWriter().bytes(signed).u32le(auth.length).bytes(auth).finish();
    },
    enclaveQuote(reportData, { mrEnclave, debug = false }) {
      const attributes = QUOTING_ENCLAVE.attributes.slice();
      if (debug) attributes[0]! |= ENCLAVE_DEBUG;
      const mrSigner = seededBytes(seed, 'enclave-signer', 32);
      const body = enclaveReport(
        { attributes, mrEnclave: sized(mrEnclave, 32), mrSigner, isvProdId: 0, isvSvn: 0 },
        sized(reportData, 64),
      );
      const signed = new ByteWriter()
        .u16le(3)
        .u16le(KEY_ECDSA_P256)
        .u32le(TEE_SGX)
        .u16le(PLATFORM_TCB.qeIsvSvn)
        .u16le(PLATFORM_TCB.pceSvn)
        .bytes(QE_VENDOR_ID)
        .bytes(padRight(qeId, 20))
        .bytes(body)
        .finish();
      // Version 3 has the report of the quoting enclave without a wrapper of its own.
      const auth = concatBytes(pki.attestationKey.sign(signed), pki.attestationKey.publicKey, certification);
      return new ByteWriter().bytes(signed).u32le(auth.length).bytes(auth).finish();
    },
  };
}

/** Header and body: what the quote signature covers. */
function signedPart(
  qeId: Uint8Array,
  reportData: Uint8Array,
  td: TdState,
  { version = 4, body = version === 5 ? '1.5' : '1.0' }: QuoteOptions,
): Uint8Array {
  if (version === 4 && body !== '1.0') throw new SimulatorError('argument', 'Quote v4 carries TD report 1.0');
  const writer = new ByteWriter()
    .u16le(version)
    .u16le(KEY_ECDSA_P256)
    .u32le(TEE_TDX)
    .u32le(0)
    .bytes(QE_VENDOR_ID)
    .bytes(padRight(qeId, 20));
  const report = tdReport(reportData, td, body);
  if (version === 5) writer.u16le(body === '1.0' ? BODY_TD_10 : BODY_TD_15).u32le(report.length);
  return writer.bytes(report).finish();
}

function tdReport(reportData: Uint8Array, td: TdState, body: '1.0' | '1.5'): Uint8Array {
  const report = concatBytes(
    PLATFORM_TCB.teeTcbSvn,
    sized(new Uint8Array(createHash('sha384').update('simulated TDX module').digest()), 48),
    zeros(48), // MRSIGNERSEAM: zero for Intel's modules
    zeros(8),
    sized(td.tdAttributes ?? PRODUCTION_ATTRIBUTES, 8),
    XFAM,
    sized(td.mrTd, 48),
    sized(td.mrConfigId ?? zeros(48), 48),
    sized(td.mrOwner ?? zeros(48), 48),
    sized(td.mrOwnerConfig ?? zeros(48), 48),
    ...td.rtmrs.map((register) => sized(register, 48)),
    sized(reportData, 64),
  );
  // TD 1.5 adds TEE_TCB_SVN_2 and MRSERVICETD.
  return body === '1.0' ? report : concatBytes(report, PLATFORM_TCB.teeTcbSvn, zeros(48));
}

/** SGX enclave report, 384 bytes. */
function enclaveReport(
  enclave: {
    readonly attributes: Uint8Array;
    readonly mrEnclave: Uint8Array;
    readonly mrSigner: Uint8Array;
    readonly isvProdId: number;
    readonly isvSvn: number;
  },
  reportData: Uint8Array,
): Uint8Array {
  return new ByteWriter()
    .bytes(PLATFORM_TCB.cpuSvn)
    .u32le(0)
    .bytes(zeros(28))
    .bytes(enclave.attributes)
    .bytes(enclave.mrEnclave)
    .bytes(zeros(32))
    .bytes(enclave.mrSigner)
    .bytes(zeros(96))
    .u16le(enclave.isvProdId)
    .u16le(enclave.isvSvn)
    .bytes(zeros(60))
    .bytes(reportData)
    .finish();
}

function sized(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  throw new SimulatorError('argument', `A field of the TD report has ${bytes.length} bytes, not ${length}`);
}

function zeros(length: number): Uint8Array {
  return new Uint8Array(length);
}

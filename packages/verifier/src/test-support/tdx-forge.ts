import { createHash } from 'node:crypto';
import {
  type RuntimeEvent,
  replayRuntimeEvents,
  runtimeEventDigest,
  type TdxAttestationQuote,
  type TdxEvent,
} from '@dstack-cloud/attestation';
import {
  ByteWriter,
  concatBytes,
  decodePemAll,
  encodePem,
  fromHex,
  toHex,
  utf8,
} from '@dstack-cloud/encoding';
import { baseAttestation, baseCollateral, baseRoot, type Forged, type Keys } from './forged.ts';
import {
  type CertificatePlan,
  type CrlPlan,
  planOf,
  writeCertificate,
  writeCrl,
} from './forged-certificate.ts';
import { type MockKey, signWith } from './mock-keys.ts';

// biome-ignore lint/suspicious/noExplicitAny: a forged document may be anything
export type Json = any;
type CertificateName = 'root' | 'pckCa' | 'pck' | 'tcb' | 'qe';

/** A TDX quote with its collateral, before anything is signed. */
export interface TdxDraft {
  now: number;
  readonly keys: Keys;
  /** Header and body: what the quote signature covers. */
  signed: Uint8Array;
  qeReport: Uint8Array;
  qeAuth: Uint8Array;
  /** Bytes written into the QE report's data in place of the binding. */
  qeReportData?: Uint8Array;
  padding: Uint8Array;
  certificationType: number;
  readonly certificates: Record<CertificateName, CertificatePlan>;
  pckChain: CertificateName[];
  tcbChain: CertificateName[];
  qeChain: CertificateName[];
  readonly crls: Record<'root' | 'pck', CrlPlan>;
  tcbInfo: Json;
  qeIdentity: Json;
  readonly signers: Record<'quote' | 'qeReport' | 'tcbInfo' | 'qeIdentity', MockKey>;
  runtimeEvents: RuntimeEvent[];
  eventLog: TdxEvent[];
  reportData: Uint8Array;
  config: Json;
  /** Changes after signing. */
  alterQuote: (quote: Uint8Array) => Uint8Array;
  alterCollateral: (collateral: Json) => Json;
  alterBytes?: (written: Uint8Array) => Uint8Array;
}

/** Offsets in the TD report (docs/protocol/evidence.md section 8). */
export const TD = {
  svn: 0,
  mrSeam: 16,
  mrSignerSeam: 64,
  seamAttributes: 112,
  attributes: 120,
  xfam: 128,
  mrTd: 136,
  mrConfigId: 184,
  mrOwner: 232,
  rtmr0: 328,
  rtmr1: 376,
  rtmr2: 424,
  rtmr3: 472,
  reportData: 520,
  svn2: 584,
  mrServiceTd: 600,
} as const;
const HEADER = 48;
const SIGNED_V4 = 632;

export function tdxDraft(keys: Keys, id = 'tdx-good'): TdxDraft {
  const attestation = baseAttestation(id);
  const { quote, eventLog } = attestation.quote as TdxAttestationQuote;
  const base = baseCollateral('tdx-base');
  const authority = 770;
  const qeReport = quote.slice(authority, authority + 384);
  const qeAuth = quote.slice(authority + 450, authority + 482);
  const pem = new TextDecoder().decode(quote.subarray(authority + 488));
  const [pck, pckCa] = decodePemAll(pem, 'CERTIFICATE');
  const root = keys('tdx-root');
  const plan = (certificate: Uint8Array, label: string, signer: MockKey): CertificatePlan =>
    planOf(certificate, keys(label).spki, signer);
  const first = (chain: string): Uint8Array => decodePemAll(chain, 'CERTIFICATE')[0]!;
  const certificates = {
    root: plan(baseRoot('tdx'), 'tdx-root', root),
    pckCa: plan(pckCa!, 'tdx-pck-ca', root),
    pck: plan(pck!, 'tdx-pck', keys('tdx-pck-ca')),
    tcb: plan(first(base['tcb_info_issuer_chain']!), 'tdx-tcb', root),
    qe: plan(first(base['qe_identity_issuer_chain']!), 'tdx-qe', root),
  };
  const tcbInfo = JSON.parse(base['tcb_info']!) as Json;
  const [from, until] = [tcbInfo.issueDate, tcbInfo.nextUpdate].map(
    (text) => Date.parse(text as string) / 1000,
  );
  const crl = (issuer: Uint8Array, signer: MockKey): CrlPlan => ({
    issuer,
    thisUpdate: from!,
    nextUpdate: until!,
    serials: [Uint8Array.of(0x1b, 0x59)],
    signer,
  });
  return {
    now: 1781524800,
    keys,
    signed: quote.slice(0, SIGNED_V4),
    qeReport,
    qeAuth,
    padding: new Uint8Array(0),
    certificationType: 5,
    certificates,
    pckChain: ['pck', 'pckCa', 'root'],
    tcbChain: ['tcb', 'root'],
    qeChain: ['qe', 'root'],
    crls: {
      root: crl(certificates.root.subject, root),
      pck: crl(certificates.pckCa.subject, keys('tdx-pck-ca')),
    },
    tcbInfo,
    qeIdentity: JSON.parse(base['qe_identity']!),
    signers: {
      quote: keys('tdx-att'),
      qeReport: keys('tdx-pck'),
      tcbInfo: keys('tdx-tcb'),
      qeIdentity: keys('tdx-qe'),
    },
    runtimeEvents: [...attestation.runtimeEvents],
    eventLog: [...eventLog],
    reportData: attestation.reportData,
    config: JSON.parse(attestation.config),
    alterQuote: (bytes) => bytes,
    alterCollateral: (collateral) => collateral,
  };
}

/** Writes into the TD report. */
export function setTd(draft: TdxDraft, field: keyof typeof TD, bytes: Uint8Array, at = 0): void {
  const body = draft.signed[0] === 5 ? HEADER + 6 : HEADER;
  draft.signed.set(bytes, body + TD[field] + at);
}

export function setTdBit(draft: TdxDraft, field: keyof typeof TD, bit: number, value: boolean): void {
  const at = (draft.signed[0] === 5 ? HEADER + 6 : HEADER) + TD[field] + (bit >> 3);
  const mask = 1 << (bit & 7);
  draft.signed[at] = value ? draft.signed[at]! | mask : draft.signed[at]! & ~mask;
}

/** Makes RTMR3 and the log follow the runtime events, and REPORTDATA the report data. */
export function measure(draft: TdxDraft): void {
  setTd(draft, 'rtmr3', replayRuntimeEvents(draft.runtimeEvents, 'sha384'));
  setTd(draft, 'reportData', draft.reportData);
  const runtime = draft.runtimeEvents.map((event) => ({
    imr: 3,
    eventType: 0x08000001,
    digest: runtimeEventDigest(event, 'sha384'),
    event: event.event,
    eventPayload: event.payload,
    ...(event.version ? { version: event.version } : {}),
  }));
  draft.eventLog = [...draft.eventLog.filter(({ imr }) => imr !== 3), ...runtime];
}

/** Turns the quote into one of version 5. */
export function toVersion5(draft: TdxDraft, type: number, size: number, body?: Uint8Array): void {
  const header = draft.signed.slice(0, HEADER);
  header[0] = 5;
  const report = draft.signed.subarray(HEADER);
  const contents = body ?? (type === 3 ? concatBytes(report, new Uint8Array(64)) : report);
  const declared = new ByteWriter();
  declared.u16le(type);
  declared.u32le(size);
  draft.signed = concatBytes(header, declared.finish(), contents);
}

export function sealQuote(draft: TdxDraft): Uint8Array {
  const key = draft.signers.quote.point;
  const bound = createHash('sha256').update(key).update(draft.qeAuth).digest();
  const qeReport = Uint8Array.from(draft.qeReport);
  qeReport.set(draft.qeReportData ?? concatBytes(bound, new Uint8Array(32)), 320);
  const pem = draft.pckChain
    .map((name) => encodePem('CERTIFICATE', writeCertificate(draft.certificates[name])))
    .join('');
  const inner = new ByteWriter();
  inner.bytes(qeReport);
  inner.bytes(signWith(draft.signers.qeReport, qeReport));
  inner.u16le(draft.qeAuth.length);
  inner.bytes(draft.qeAuth);
  inner.u16le(draft.certificationType);
  inner.u32le(utf8(pem).length);
  inner.bytes(utf8(pem));
  const certification = inner.finish();
  const auth = new ByteWriter();
  auth.bytes(signWith(draft.signers.quote, draft.signed));
  auth.bytes(key);
  auth.u16le(6);
  auth.u32le(certification.length);
  auth.bytes(certification);
  const authentication = auth.finish();
  const whole = new ByteWriter();
  whole.bytes(draft.signed);
  whole.u32le(authentication.length);
  whole.bytes(authentication);
  whole.bytes(draft.padding);
  return draft.alterQuote(whole.finish());
}

export function sealCollateral(draft: TdxDraft): Json {
  const chain = (...names: CertificateName[]): string =>
    names.map((name) => encodePem('CERTIFICATE', writeCertificate(draft.certificates[name]))).join('');
  const text = (value: Json): string => (typeof value === 'string' ? value : JSON.stringify(value));
  const tcbInfo = text(draft.tcbInfo);
  const qeIdentity = text(draft.qeIdentity);
  return draft.alterCollateral({
    pck_crl_issuer_chain: chain('pckCa', 'root'),
    root_ca_crl: toHex(writeCrl(draft.crls.root)),
    pck_crl: toHex(writeCrl(draft.crls.pck)),
    tcb_info_issuer_chain: chain(...draft.tcbChain),
    tcb_info: tcbInfo,
    tcb_info_signature: toHex(signWith(draft.signers.tcbInfo, utf8(tcbInfo))),
    qe_identity_issuer_chain: chain(...draft.qeChain),
    qe_identity: qeIdentity,
    qe_identity_signature: toHex(signWith(draft.signers.qeIdentity, utf8(qeIdentity))),
  });
}

export function sealTdx(draft: TdxDraft): Forged {
  const { runtimeEvents, reportData, eventLog, config } = draft;
  return {
    attestation: {
      quote: { mode: 'dstack-tdx', quote: sealQuote(draft), eventLog },
      runtimeEvents,
      reportData,
      config: typeof config === 'string' ? config : JSON.stringify(config),
    },
    alterBytes: draft.alterBytes,
    now: draft.now,
    roots: { tdx: writeCertificate(draft.certificates.root) },
    collateral: [sealCollateral(draft)],
  };
}

/** Names of a runtime event's members, shortened for tables. */
export function event(name: string, payload = ''): RuntimeEvent {
  return { event: name, payload: fromHex(payload) };
}

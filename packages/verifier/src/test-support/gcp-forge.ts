import { createHash, type KeyObject, sign } from 'node:crypto';
import {
  type GcpTdxAttestationQuote,
  type PcrValue,
  parseTpmsAttest,
  replayDigests,
  replayRuntimeEvents,
  type TpmEvent,
  type TpmPlatform,
} from '@dstack-cloud/attestation';
import { ByteWriter, concatBytes, decodePem, der, encodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { baseAttestation, baseCollateral, baseRoot, type Forged, type Keys } from './forged.ts';
import {
  type CertificatePlan,
  type CrlPlan,
  planOf,
  setExtension,
  writeCertificate,
  writeCrl,
} from './forged-certificate.ts';
import { type MockKey, signWith } from './mock-keys.ts';
import { measure, sealCollateral, sealQuote, type TdxDraft, tdxDraft } from './tdx-forge.ts';

const GCE_INSTANCE = '1.3.6.1.4.1.11129.2.1.21';

interface Selection {
  algorithm: number;
  pcrs: number[];
}

/** A vTPM quote beside a TDX quote, before anything is signed. */
export interface GcpDraft {
  readonly keys: Keys;
  readonly tdx: TdxDraft;
  magic: string;
  type: string;
  /** Default: the hash of the TDX quote. */
  extraData?: Uint8Array;
  safe: number;
  selections: Selection[];
  /** Default: the hash of the PCR values. */
  pcrDigest?: Uint8Array;
  attestTail: Uint8Array;
  pcrValues: PcrValue[];
  eventLog: TpmEvent[];
  platform: TpmPlatform;
  readonly certificates: Record<'root' | 'intermediate' | 'ak', CertificatePlan>;
  readonly crls: Record<'root' | 'intermediate', CrlPlan>;
  crlList: ('root' | 'intermediate')[];
  signer: MockKey;
  /** RSA key in place of the signer. */
  rsa?: KeyObject;
  alterSignature: (tpmt: Uint8Array) => Uint8Array;
}

export function gcpDraft(keys: Keys): GcpDraft {
  const attestation = baseAttestation('gcp-good');
  const { tpmQuote, quote, eventLog } = attestation.quote as GcpTdxAttestationQuote;
  const base = baseCollateral('tpm-base');
  const tdx = tdxDraft(keys);
  tdx.signed = quote.slice(0, 632);
  tdx.eventLog = [...eventLog];
  tdx.runtimeEvents = [...attestation.runtimeEvents];
  tdx.reportData = attestation.reportData;
  tdx.config = JSON.parse(attestation.config);
  const root = keys('tpm-root');
  const intermediate = keys('tpm-intermediate');
  const certificates = {
    root: planOf(baseRoot('tpm'), root.spki, root),
    intermediate: planOf(
      decodePem(firstPem(base['cert_chain_pem']!), 'CERTIFICATE'),
      intermediate.spki,
      root,
    ),
    ak: planOf(tpmQuote.akCert, keys('tpm-ak').spki, intermediate),
  };
  const crl = (issuer: Uint8Array, signer: MockKey): CrlPlan => ({
    ...tdx.crls.root,
    issuer,
    serials: [Uint8Array.of(0x23, 0x29)],
    signer,
  });
  return {
    keys,
    tdx,
    magic: 'ff544347',
    type: '8018',
    safe: parseTpmsAttest(tpmQuote.message).safe ? 1 : 0,
    selections: [{ algorithm: 0x000b, pcrs: [0, 2, 14] }],
    attestTail: new Uint8Array(0),
    pcrValues: [...tpmQuote.pcrValues],
    eventLog: [...tpmQuote.eventLog],
    platform: tpmQuote.platform,
    certificates,
    crls: {
      root: crl(certificates.root.subject, root),
      intermediate: crl(certificates.intermediate.subject, intermediate),
    },
    crlList: ['intermediate', 'root'],
    signer: keys('tpm-ak'),
    alterSignature: (tpmt) => tpmt,
  };
}

function firstPem(chain: string): string {
  const end = '-----END CERTIFICATE-----';
  return chain.slice(0, chain.indexOf(end) + end.length + 1);
}

/** Makes RTMR3 and PCR14 follow the runtime events. */
export function measureGcp(draft: GcpDraft): void {
  measure(draft.tdx);
  setPcr(draft, 14, replayRuntimeEvents(draft.tdx.runtimeEvents, 'sha256'));
}

export function setPcr(draft: GcpDraft, index: number, value: Uint8Array): void {
  draft.pcrValues = draft.pcrValues.map((pcr) => (pcr.index === index ? { ...pcr, value } : pcr));
}

/** Other events of PCR 2, with its value. */
export function setPcr2(draft: GcpDraft, change: (digests: Uint8Array[]) => Uint8Array[]): void {
  const digests = change(draft.eventLog.filter(({ pcrIndex }) => pcrIndex === 2).map(({ digest }) => digest));
  draft.eventLog = [
    ...draft.eventLog.filter(({ pcrIndex }) => pcrIndex !== 2),
    ...digests.map((digest) => ({ pcrIndex: 2, digest })),
  ];
  setPcr(draft, 2, replayDigests(digests, 'sha256'));
}

export function sealGcp(draft: GcpDraft): Forged {
  const { tdx, certificates } = draft;
  const quote = sealQuote(tdx);
  const message = attest(draft, quote);
  const signature = draft.alterSignature(
    draft.rsa ? rsassa(draft.rsa, message) : ecdsa(signWith(draft.signer, message)),
  );
  const { runtimeEvents, reportData, eventLog, config } = tdx;
  return {
    attestation: {
      quote: {
        mode: 'dstack-gcp-tdx',
        quote,
        eventLog,
        tpmQuote: {
          message,
          signature,
          pcrValues: draft.pcrValues,
          akCert: writeCertificate(certificates.ak),
          platform: draft.platform,
          eventLog: draft.eventLog,
        },
      },
      runtimeEvents,
      reportData,
      config: typeof config === 'string' ? config : JSON.stringify(config),
    },
    now: tdx.now,
    roots: { tdx: writeCertificate(tdx.certificates.root), gcp_tpm: writeCertificate(certificates.root) },
    collateral: [
      sealCollateral(tdx),
      {
        cert_chain_pem: [certificates.intermediate, certificates.root]
          .map((plan) => encodePem('CERTIFICATE', writeCertificate(plan)))
          .join(''),
        crls: draft.crlList.includes('intermediate') ? [toHex(writeCrl(draft.crls.intermediate))] : [],
        ...(draft.crlList.includes('root') ? { root_ca_crl: toHex(writeCrl(draft.crls.root)) } : {}),
      },
    ],
  };
}

/** TPMT_SIGNATURE of ECDSA; coordinates as they are given. */
export function tpmtEcdsa(r: Uint8Array, s: Uint8Array): Uint8Array {
  const writer = new ByteWriter();
  writer.bytes(fromHex('0018000b'));
  for (const part of [r, s]) {
    writer.u16be(part.length);
    writer.bytes(part);
  }
  return writer.finish();
}

function ecdsa(raw: Uint8Array): Uint8Array {
  return tpmtEcdsa(raw.subarray(0, 32), raw.subarray(32));
}

function rsassa(key: KeyObject, message: Uint8Array): Uint8Array {
  const signature = new Uint8Array(sign('sha256', message, key));
  return concatBytes(
    fromHex('0014000b'),
    Uint8Array.of(signature.length >> 8, signature.length & 0xff),
    signature,
  );
}

function attest(draft: GcpDraft, quote: Uint8Array): Uint8Array {
  const sha256 = (bytes: Uint8Array): Uint8Array =>
    new Uint8Array(createHash('sha256').update(bytes).digest());
  const extraData = draft.extraData ?? sha256(quote);
  const digest = draft.pcrDigest ?? sha256(concatBytes(...draft.pcrValues.map(({ value }) => value)));
  const writer = new ByteWriter();
  writer.bytes(fromHex(draft.magic));
  writer.bytes(fromHex(draft.type));
  writer.bytes(fromHex(`0022000b${'5e'.repeat(32)}`));
  writer.u16be(extraData.length);
  writer.bytes(extraData);
  writer.bytes(fromHex('00000000054dd1ef0000001000000000'));
  writer.u8(draft.safe);
  writer.bytes(fromHex('2016051100162800'));
  writer.u32be(draft.selections.length);
  for (const { algorithm, pcrs } of draft.selections) {
    const bitmap = new Uint8Array(3);
    for (const pcr of pcrs) bitmap[pcr >> 3]! |= 1 << (pcr & 7);
    writer.u16be(algorithm);
    writer.u8(3);
    writer.bytes(bitmap);
  }
  writer.u16be(digest.length);
  writer.bytes(digest);
  writer.bytes(draft.attestTail);
  return writer.finish();
}

/** As Google issues it: `[0] { [0] { security version }, [1] { production } }` after the machine's names. */
export function gceInstance(isProduction?: boolean): Uint8Array {
  const properties = der.sequence(
    der.explicit(0, der.integer(0)),
    ...(isProduction === undefined ? [] : [der.explicit(1, der.boolean(isProduction))]),
  );
  return der.sequence(
    der.utf8String('us-central1-a'),
    der.integer(1234567890),
    der.utf8String('project'),
    der.integer(987654321),
    der.utf8String('machine'),
    der.explicit(0, properties),
  );
}

/** Has the attestation key's certificate name this machine, or none. */
export function setMachine(draft: GcpDraft, value?: Uint8Array): void {
  setExtension(draft.certificates.ak, GCE_INSTANCE, value, false);
}

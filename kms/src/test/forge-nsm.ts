import { createECDH, createHash, createPrivateKey, sign } from 'node:crypto';
import { type Attestation, decodeAttestation, parseCoseSign1 } from '@dstack-cloud/attestation';
import { concatBytes, decodeCbor, encodeCbor, fromHex, utf8 } from '@dstack-cloud/encoding';

/** Changes to the recorded enclave's evidence. */
export type NsmChange = {
  /** Unix seconds of the document. */
  readonly timestamp: number;
  readonly reportData: Uint8Array;
  readonly members?: (payload: Map<unknown, unknown>) => void;
  readonly events?: Attestation['runtimeEvents'];
  readonly config?: string;
  /** After signing. */
  readonly document?: (bytes: Uint8Array) => Uint8Array;
};

/** A maker of NSM evidence under the root of the larger recording: its document, changed and signed again. */
export function nsmForge(seedHex: string, recorded: Uint8Array): (change: NsmChange) => Attestation {
  const base = decodeAttestation(recorded);
  if (base.quote.mode !== 'dstack-nitro-enclave') throw new Error('the recorded client is an enclave');
  const cose = parseCoseSign1(base.quote.nsmQuote);
  const key = leafKey(seedHex);
  return ({ timestamp, reportData, members, events, config, document }) => {
    const payload = decodeCbor(cose.payload, { indefinite: true }) as Map<unknown, unknown>;
    payload.set('timestamp', Math.round(timestamp * 1000));
    payload.set('user_data', reportData);
    members?.(payload);
    const bytes = encodeCbor(payload);
    const signed = encodeCbor(['Signature1', cose.protectedHeader, new Uint8Array(), bytes]);
    const signature = new Uint8Array(sign('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }));
    const nsmQuote = encodeCbor([cose.protectedHeader, new Map(), bytes, signature]);
    return {
      quote: { mode: 'dstack-nitro-enclave', nsmQuote: document?.(nsmQuote) ?? nsmQuote },
      runtimeEvents: events ?? base.runtimeEvents,
      reportData,
      config: config ?? base.config,
    };
  };
}

/** The leaf's key by the rule of the mock evidence: SHA-384 of domain, seed, label and counter. */
function leafKey(seedHex: string): ReturnType<typeof createPrivateKey> {
  const input = concatBytes(
    utf8('dstack-mock-p384-v1'),
    fromHex(seedHex),
    utf8('nsm-leaf'),
    new Uint8Array(4),
  );
  const scalar = createHash('sha384').update(input).digest();
  const ecdh = createECDH('secp384r1');
  ecdh.setPrivateKey(scalar);
  const point = ecdh.getPublicKey();
  const part = (from: number): string => point.subarray(from, from + 48).toString('base64url');
  return createPrivateKey({
    format: 'jwk',
    key: { kty: 'EC', crv: 'P-384', d: scalar.toString('base64url'), x: part(1), y: part(49) },
  });
}

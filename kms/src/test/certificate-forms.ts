import { gzipSync } from 'node:zlib';
import { decodeAttestation, encodeAttestation, eventLogToJson } from '@dstack-cloud/attestation';
import { concatBytes, encodeMsgpack, fromHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyFromScalar, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import type { ClientIdentity } from './ask.ts';
import { type ForgedExtension, forgeCertificate } from './forge-certificate.ts';

type Form = {
  readonly extensions: readonly ForgedExtension[];
  readonly key?: P256Key;
  /** Default: the temp CA. */
  readonly issuer?: 'temp' | 'self' | 'root';
  readonly notAfter?: number;
};

/** A recorded guest: its TLS key and its attestation. */
export type RecordedGuest = { readonly client_key_scalar: string; readonly attestation_hex: string };

/**
 * The good and bad certificates of the larger recording, made anew: the recording describes them and leaves them out.
 * @returns identities by the beginning of the recorded ids
 */
export function certificateForms(
  guest: RecordedGuest,
  authorities: { temp: P256Key; root: P256Key },
): Record<string, ClientIdentity> {
  const key = p256KeyFromScalar(fromHex(guest.client_key_scalar));
  return Object.fromEntries(
    Object.entries(forms(guest)).map(([id, form]) => {
      const own = form.key ?? key;
      const issuer = form.issuer ?? 'temp';
      const options = {
        ...(issuer === 'self' ? {} : { issuerKey: authorities[issuer] }),
        ...(issuer === 'root' ? { issuerName: 'Dstack KMS CA' } : {}),
        ...(form.notAfter === undefined ? {} : { notAfter: form.notAfter }),
      };
      return [id, { cert: forgeCertificate(own, form.extensions, options), key: p256KeyPem(own) }];
    }),
  );
}

function forms(guest: RecordedGuest): Record<string, Form> {
  const encoded = fromHex(guest.attestation_hex);
  const attestation = decodeAttestation(encoded);
  const { quote } = attestation;
  if (quote.mode !== 'dstack-tdx') throw new Error('the recorded guest is on bare TDX');
  const log = utf8(eventLogToJson(quote.eventLog, { strip: false }));
  const whole = (content: Uint8Array): ForgedExtension => ({ oid: OID.attestation, content });
  const good = whole(encoded);
  const legacy = { oid: OID.tdxQuote, content: quote.quote };
  const legacyLog = (content: Uint8Array): ForgedExtension => ({ oid: OID.tdxEventLog, content });
  const flipped = (offset: number): ForgedExtension => {
    const bytes = quote.quote.slice();
    bytes[offset]! ^= 1;
    return whole(encodeAttestation({ ...attestation, quote: { ...quote, quote: bytes } }));
  };
  const otherEvents = attestation.runtimeEvents.map((event) =>
    event.event === 'compose-hash' ? { ...event, payload: new Uint8Array(32).fill(0x99) } : event,
  );
  const appInfo = (...more: unknown[]): ForgedExtension => ({
    oid: OID.appInfo,
    content: encodeMsgpack([...Array.from({ length: 8 }, () => new Uint8Array(20).fill(1)), ...more]),
  });
  return {
    'cert-noatt': { extensions: [] },
    'cert-selfsigned-getmeta': { extensions: [], issuer: 'self' },
    'cert-expired': { extensions: [good], notAfter: 1_609_459_200 },
    'cert-selfsigned-att': { extensions: [good], issuer: 'self' },
    'cert-rootca-issued': { extensions: [good], issuer: 'root' },
    'cert-otherkey': { extensions: [good], key: generateP256Key() },
    // The TD report's MRTD lies at 48 + 136 (docs/protocol/evidence.md section 8); the signature at 48 + 584 + 4.
    'cert-quote-body-flipped': { extensions: [flipped(184)] },
    'cert-quote-sig-flipped': { extensions: [flipped(640)] },
    'cert-att-truncated': { extensions: [whole(encoded.slice(0, 300))] },
    'cert-att-trailing': { extensions: [whole(concatBytes(encoded, Uint8Array.of(0)))] },
    'cert-att-empty': { extensions: [whole(new Uint8Array())] },
    'cert-att-unknownversion': { extensions: [whole(concatBytes(Uint8Array.of(5), encoded.slice(1)))] },
    'cert-event-changed': {
      extensions: [
        whole(
          encodeAttestation({
            ...attestation,
            runtimeEvents: otherEvents,
            quote: { ...quote, eventLog: [] },
          }),
        ),
      ],
    },
    'cert-config-changed': {
      extensions: [
        whole(
          encodeAttestation({
            ...attestation,
            config: attestation.config.replace(/"cpu_count":\s*\d+/, '"cpu_count":63'),
          }),
        ),
      ],
    },
    'cert-legacy-12': { extensions: [legacy, legacyLog(log)] },
    'cert-legacy-1-only': { extensions: [legacy] },
    'cert-legacy-2-only': { extensions: [legacyLog(log)] },
    'cert-legacy-badlog': { extensions: [legacy, legacyLog(utf8('nope'))] },
    'cert-legacy-gzip': {
      extensions: [legacy, legacyLog(concatBytes(utf8('ELGZv1'), new Uint8Array(gzipSync(log))))],
    },
    'cert-8-wins-over-12': { extensions: [legacy, legacyLog(utf8('[]')), good] },
    'cert-appid-badder': {
      extensions: [good, { oid: OID.appId, content: Uint8Array.of(1, 2, 3), wraps: 1 }],
    },
    'cert-appinfo-bad': { extensions: [good, { oid: OID.appInfo, content: Uint8Array.of(0xc1) }] },
    'cert-appid-lie': { extensions: [good, { oid: OID.appId, content: new Uint8Array(20).fill(0x99) }] },
    'cert-8-single-wrapped': { extensions: [{ ...good, wraps: 1 }] },
    'appinfo-8-elements': { extensions: [good, appInfo()] },
    'appinfo-9-elements': { extensions: [good, appInfo([new Uint8Array(32)])] },
    'appinfo-9-nil': { extensions: [good, appInfo(null)] },
    'appinfo-10-elements': { extensions: [good, appInfo([], 1)] },
    'dup-8': { extensions: [good, good] },
  };
}

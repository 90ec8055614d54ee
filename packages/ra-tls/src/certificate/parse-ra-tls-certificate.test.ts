import { sign } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { decodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { concatBytes, der, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyFromScalar } from '@dstack-cloud/keys';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { RaTlsError } from '../errors.ts';
import { encodeName } from '../names/distinguished-name.ts';
import { OID, X509_OID } from '../oid.ts';
import { extension, wrappedExtension } from './certificate-extensions.ts';
import { parseRaTlsCertificate } from './parse-ra-tls-certificate.ts';

const key = generateP256Key();
const algorithm = der.sequence(der.oid(X509_OID.ecdsaWithSha256));

/** A certificate with just these extensions, right or wrong. */
function certificate(...extensions: Uint8Array[]): Uint8Array {
  const name = encodeName({ commonName: 'x' });
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(1),
    algorithm,
    name,
    der.sequence(der.time(0), der.time(2_000_000_000)),
    name,
    key.spki,
    ...(extensions.length > 0 ? [der.explicit(3, der.sequence(...extensions))] : []),
  );
  return der.sequence(tbs, algorithm, der.bitString(new Uint8Array(sign('sha256', tbs, key.privateKey))));
}

describe('extensions of RA-TLS', () => {
  it('have the bytes of docs/protocol/ra-tls.md section 1.1', () => {
    expect(toHex(wrappedExtension(OID.usage, utf8('kms:rpc')))).toBe(
      '3017060a2b0601040183e73d0104040904076b6d733a727063',
    );
    expect(toHex(wrappedExtension(OID.appId, new Uint8Array(20).fill(0x11)))).toBe(
      `3024060a2b0601040183e73d010304160414${'11'.repeat(20)}`,
    );
  });

  it('none at all is a certificate without claims', () => {
    const read = parseRaTlsCertificate(certificate());
    expect([read.usage, read.appId, read.appInfo, read.attestation]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  const quote = wrappedExtension(OID.tdxQuote, Uint8Array.of(1));
  const log = (text: Uint8Array): Uint8Array => wrappedExtension(OID.tdxEventLog, text);

  it.each<[string, Uint8Array[], string]>([
    [
      'wrapped once',
      [extension(OID.usage, false, utf8('kms:rpc'))],
      'Failed to get extension for [1, 3, 6, 1, 4, 1, 62397, 1, 4]',
    ],
    [
      'another type inside',
      [extension(OID.appId, false, der.integer(1))],
      'Failed to get extension for [1, 3, 6, 1, 4, 1, 62397, 1, 3]',
    ],
    [
      'bytes after the inner string',
      [extension(OID.usage, false, concatBytes(der.octetString(utf8('kms:rpc')), Uint8Array.of(0)))],
      'Failed to get extension',
    ],
    [
      'twice',
      [wrappedExtension(OID.usage, utf8('app:custom')), wrappedExtension(OID.usage, utf8('kms:rpc'))],
      'Failed to parse certificate',
    ],
    [
      'usage that is no text',
      [wrappedExtension(OID.usage, Uint8Array.of(0xff))],
      'Failed to decode the usage extension',
    ],
    ['usage without end', [wrappedExtension(OID.usage, new Uint8Array(257).fill(0x61))], 'too long'],
    [
      'app info that is no MessagePack',
      [wrappedExtension(OID.appInfo, Uint8Array.of(0xc1))],
      'Failed to decode app info',
    ],
    [
      'empty evidence',
      [wrappedExtension(OID.attestation, new Uint8Array())],
      'Failed to decode attestation from cert extension',
    ],
    [
      'evidence of an unknown version',
      [wrappedExtension(OID.attestation, Uint8Array.of(5))],
      'Failed to decode attestation from cert extension',
    ],
    ['quote without its log', [quote], 'TDX event log missing'],
    [
      'log that is no JSON',
      [quote, log(utf8('x'))],
      'Failed to create attestation from TDX quote: Failed to parse tdx_event_log',
    ],
    ['damaged compressed log', [quote, log(utf8('ELGZv1x'))], 'Failed to parse tdx_event_log'],
    [
      'log that inflates without end',
      [quote, log(concatBytes(utf8('ELGZv1'), gzipSync(new Uint8Array(2 << 20))))],
      'Failed to parse tdx_event_log',
    ],
  ])('%s', (_, extensions, text) => {
    expect(() => parseRaTlsCertificate(certificate(...extensions))).toThrow(RaTlsError);
    expect(() => parseRaTlsCertificate(certificate(...extensions))).toThrow(text);
  });

  it('a log without a quote is no evidence', () => {
    expect(parseRaTlsCertificate(certificate(log(utf8('[]')))).attestation).toBeUndefined();
  });

  it('bytes that are no certificate', () => {
    for (const bytes of [
      new Uint8Array(),
      Uint8Array.of(0x30, 0x80),
      concatBytes(certificate(), Uint8Array.of(0)),
    ]) {
      expect(() => parseRaTlsCertificate(bytes)).toThrow(RaTlsError);
    }
  });
});

interface ClientApp {
  cert_der: string;
  key_pkcs8: string;
  attestation: string;
  report_data: string;
}

describeWithFixtures('the recorded client', 'kms-original/client-app.json', () => {
  const client = fixtureJson<ClientApp>('kms-original/client-app.json');

  it('its evidence is read, and names its key', () => {
    const read = parseRaTlsCertificate(fromHex(client.cert_der));
    expect(read.attestation).toEqual(decodeAttestation(fromHex(client.attestation)));
    expect(toHex(read.attestation!.reportData)).toBe(client.report_data);
    expect(toHex(ratlsReportData(read.spki))).toBe(client.report_data);
    expect(p256KeyFromScalar(fromHex(client.key_pkcs8.slice(72, 136))).spki).toEqual(read.spki);
  });

  it('one changed byte in any extension gives a certificate or a RaTlsError', () => {
    const original = fromHex(client.cert_der);
    for (let i = 200; i < original.length; i += 61) {
      const changed = original.slice();
      changed[i]! ^= 0xff;
      try {
        parseRaTlsCertificate(changed);
      } catch (error) {
        expect(error).toBeInstanceOf(RaTlsError);
      }
    }
  });
});

interface Evidence {
  clients: Array<{ name: string; client_cert_pem: string; client_spki: string; report_data: string }>;
}

describeWithFixtures('recorded clients of every form', 'kms-original/full/evidence.json', () => {
  const { clients } = fixtureJson<Evidence>('kms-original/full/evidence.json');

  it.each(clients)('$name', ({ client_cert_pem, client_spki, report_data }) => {
    const body = client_cert_pem.replace(/-----[^-]+-----/g, '');
    const read = parseRaTlsCertificate(new Uint8Array(Buffer.from(body, 'base64')));
    expect(toHex(read.spki)).toBe(client_spki);
    expect(toHex(read.attestation!.reportData)).toBe(report_data);
    expect(toHex(ratlsReportData(read.spki))).toBe(report_data);
  });
});

import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import {
  type Certificate,
  decodeAttestation,
  extensionValue,
  nameAttribute,
  parseCertificate,
} from '@dstack-cloud/attestation';
import { decodePem, derOctetString, readDer, toHex, utf8 } from '@dstack-cloud/encoding';
import { p256KeyFromPem } from '@dstack-cloud/keys';
import { type ConformanceCase, expectSame, expectText, expectThat, reading } from '../case.ts';
import type { Endpoint } from '../endpoint.ts';
import { call, expectRefusal, hexOf, refusal } from '../rpc.ts';
import { type AgentTarget, tappdOf } from './target.ts';
import { tdReportOf } from './td-report.ts';

const PRIVATE = '1.3.6.1.4.1.62397.1';
const COMMON_NAME = '2.5.4.3';
const KEY_USAGE = '2.5.29.15';
const EXTENDED_KEY_USAGE = '2.5.29.37';
const SUBJECT_ALT_NAME = '2.5.29.17';
const YEAR_10000 = 253_402_300_800;

interface TlsKey {
  readonly pem: string;
  readonly chain: readonly string[];
  readonly leaf: Certificate;
  readonly x509: X509Certificate;
}

async function tlsKey(dstack: Endpoint, args: object = {}): Promise<TlsKey> {
  return readTlsKey(await call(dstack, '/GetTlsKey', args));
}

function readTlsKey(answer: Record<string, unknown>): TlsKey {
  expectText('key', answer['key'], /^-----BEGIN PRIVATE KEY-----\n/);
  const chain = answer['certificate_chain'];
  expectThat(Array.isArray(chain) && chain.length >= 2, 'certificate_chain has fewer than 2 certificates');
  for (const pem of chain) expectText('certificate_chain', pem, /^-----BEGIN CERTIFICATE-----\r?\n/);
  const [first] = chain as [string];
  return {
    pem: answer['key'],
    chain: chain as string[],
    leaf: reading('Leaf', () => parseCertificate(decodePem(first, 'CERTIFICATE'))),
    x509: reading('Leaf', () => new X509Certificate(first)),
  };
}

function privateExtension(leaf: Certificate, number: number): Uint8Array | undefined {
  const value = extensionValue(leaf, `${PRIVATE}.${number}`);
  return value === undefined
    ? undefined
    : reading(`Extension .${number}`, () => derOctetString(readDer(value)));
}

/** Evidence of a certificate: an attestation, or with the 0.6 line a bare quote. */
function reportDataOf(leaf: Certificate): string {
  const attestation = privateExtension(leaf, 8);
  if (attestation !== undefined)
    return reading('Attestation', () => toHex(decodeAttestation(attestation).reportData));
  const quote = privateExtension(leaf, 1);
  expectThat(quote !== undefined, 'The certificate has no evidence');
  return toHex(tdReportOf(quote).reportData);
}

/** Keys for TLS and their certificates. */
export const CERTIFICATE_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.get-tls-key.form',
    checks: 'The key is P-256 in PKCS#8, the first certificate is for it, and each is signed by the next.',
    section: 'guest-agent.md 4.2',
    run: async ({ dstack }) => {
      const { pem, chain, x509 } = await tlsKey(dstack, { subject: 'conformance', usage_server_auth: true });
      const key = reading('key', () => createPrivateKey(pem));
      expectSame('Curve', key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
      const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
      expectThat(
        spki.equals(x509.publicKey.export({ type: 'spki', format: 'der' })),
        'The leaf is for another key',
      );
      const certificates = chain.map((text) => reading('certificate_chain', () => new X509Certificate(text)));
      certificates.slice(1).forEach((issuer, index) => {
        expectThat(
          certificates[index]!.verify(issuer.publicKey),
          `Certificate ${index} is not signed by the next one`,
        );
      });
    },
  },
  {
    id: 'agent.get-tls-key.random',
    checks: 'Each call makes another key.',
    section: 'guest-agent.md 4.2',
    run: async ({ dstack }) => {
      const [one, other] = [await tlsKey(dstack), await tlsKey(dstack)];
      expectThat(one.pem !== other.pem, 'Two calls gave the same key');
    },
  },
  {
    id: 'agent.get-tls-key.names',
    checks: 'The common name is the subject; alternative names are those asked for, in order, or none.',
    section: 'ra-tls.md 2.2',
    run: async ({ dstack }) => {
      const alt_names = ['b.example.com', 'a.example.com', '*.example.com'];
      const { leaf, x509 } = await tlsKey(dstack, { subject: 'conformance', alt_names });
      expectSame('Common name', nameAttribute(leaf.subject, COMMON_NAME), 'conformance');
      expectSame('Alternative names', x509.subjectAltName, alt_names.map((name) => `DNS:${name}`).join(', '));
      const { leaf: bare } = await tlsKey(dstack, { subject: 'conformance' });
      expectThat(
        extensionValue(bare, SUBJECT_ALT_NAME) === undefined,
        'A certificate without names has the extension',
      );
    },
  },
  {
    id: 'agent.get-tls-key.usages',
    checks: 'The extended key usages are exactly those asked for; the key usage is digitalSignature.',
    section: 'ra-tls.md 2.2',
    run: async ({ dstack }) => {
      const [server, client] = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'];
      for (const [args, expected] of [
        [{ usage_server_auth: true }, [server]],
        [{ usage_client_auth: true }, [client]],
        [{ usage_server_auth: true, usage_client_auth: true }, [server, client]],
        [{}, undefined],
      ] as const) {
        const { leaf, x509 } = await tlsKey(dstack, args);
        expectSame(`Usages for ${JSON.stringify(args)}`, x509.keyUsage, expected);
        expectSame(
          'Usages in the certificate',
          extensionValue(leaf, EXTENDED_KEY_USAGE) !== undefined,
          expected !== undefined,
        );
        expectSame('Key usage', toHex(extensionValue(leaf, KEY_USAGE) ?? new Uint8Array()), '03020780');
      }
    },
  },
  {
    id: 'agent.get-tls-key.times',
    checks: 'not_before and not_after are in the certificate.',
    section: 'guest-agent.md 4.2',
    run: async ({ dstack }) => {
      const now = Math.floor(Date.now() / 1000);
      const { leaf } = await tlsKey(dstack, { not_before: now - 60, not_after: now + 3600 });
      expectSame('notBefore', leaf.notBefore, now - 60);
      expectSame('notAfter', leaf.notAfter, now + 3600);
    },
  },
  {
    id: 'agent.get-tls-key.times-refused',
    checks: 'A not_before that is not earlier than not_after is refused.',
    section: 'guest-agent.md 4.2',
    run: ({ dstack }) =>
      expectRefusal(
        dstack,
        '/GetTlsKey',
        { not_before: 2_000_000_000, not_after: 2_000_000_000 },
        /not_before must be earlier than not_after/,
      ),
  },
  {
    id: 'agent.get-tls-key.far-times',
    checks: 'A time after the year 9999 is refused, and the agent goes on.',
    section: 'guest-agent.md 4.2',
    run: async ({ dstack }) => {
      for (const not_after of [YEAR_10000, Number.MAX_SAFE_INTEGER])
        expectSame('Status', (await refusal(dstack, '/GetTlsKey', { not_after })).status, 400);
      await call(dstack, '/Version');
    },
  },
  {
    id: 'agent.get-tls-key.evidence',
    checks: 'With usage_ra_tls the certificate has evidence over SHA-512("ratls-cert:" and its public key).',
    section: 'ra-tls.md 1.2',
    run: async ({ dstack }) => {
      const { leaf } = await tlsKey(dstack, { usage_ra_tls: true });
      const expected = createHash('sha512').update('ratls-cert:').update(leaf.spki).digest('hex');
      expectSame('Report data', reportDataOf(leaf), expected);
    },
  },
  {
    id: 'agent.get-tls-key.no-evidence',
    checks: 'Without usage_ra_tls and with_app_info the certificate has neither.',
    section: 'ra-tls.md 1.1',
    run: async ({ dstack }) => {
      const { leaf } = await tlsKey(dstack, { usage_server_auth: true });
      for (const number of [1, 2, 8, 9])
        expectThat(
          privateExtension(leaf, number) === undefined,
          `The certificate has the extension .${number}`,
        );
    },
  },
  {
    id: 'agent.get-tls-key.app-info',
    checks: 'With with_app_info the certificate has the application: its app id and compose hash first.',
    section: 'ra-tls.md 1.3',
    run: async ({ dstack }) => {
      const info = await call(dstack, '/Info');
      const { leaf } = await tlsKey(dstack, { with_app_info: true });
      const bytes = privateExtension(leaf, 9);
      expectThat(bytes !== undefined, 'The certificate has no extension .9');
      const appId = hexOf(info, 'app_id', 20);
      // MessagePack: an array of 8 or 9, then binaries of 20 and of 32 bytes.
      expectText(
        'App info',
        toHex(bytes),
        new RegExp(`^9[89]c414${appId}c420${hexOf(info, 'compose_hash', 32)}`),
      );
    },
  },
  {
    id: 'agent.get-tls-key.usage-text',
    checks: 'The certificate says app:custom in the extension .4.',
    section: 'ra-tls.md 2.3',
    run: async ({ dstack }) => {
      const { leaf } = await tlsKey(dstack);
      expectSame(
        'Extension .4',
        toHex(privateExtension(leaf, 4) ?? new Uint8Array()),
        toHex(utf8('app:custom')),
      );
    },
  },
  {
    id: 'agent.tappd.derive-key',
    checks: 'DeriveKey gives the P-256 key whose scalar is the key of GetKey for the path.',
    section: 'keys.md 3.3',
    run: async (target) => {
      const tappd = tappdOf(target);
      const { pem } = readTlsKey(
        await call(tappd, '/prpc/Tappd.DeriveKey', { path: 'conformance', subject: 's' }),
      );
      const { key } = await call(target.dstack, '/GetKey', { path: 'conformance' });
      expectSame('Scalar', toHex(reading('key', () => p256KeyFromPem(pem)).scalar), key);
    },
  },
  {
    id: 'agent.tappd.random-seed',
    checks: 'DeriveKey with random_seed gives another key each time.',
    section: 'guest-agent.md 4.2',
    run: async (target) => {
      const args = { path: 'conformance', random_seed: true };
      const keys = [
        await call(tappdOf(target), '/prpc/Tappd.DeriveKey', args),
        await call(tappdOf(target), '/prpc/Tappd.DeriveKey', args),
      ].map((answer) => readTlsKey(answer).pem);
      expectThat(keys[0] !== keys[1], 'Two calls gave the same key');
    },
  },
];

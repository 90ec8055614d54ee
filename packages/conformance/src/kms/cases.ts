import { createPrivateKey, X509Certificate } from 'node:crypto';
import { decodeAttestation } from '@dstack-cloud/attestation';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { bootstrapReportData, k256PublicKey, recoverK256, x25519PublicKey } from '@dstack-cloud/keys';
import { create, fromBinary, kms, toBinary } from '@dstack-cloud/prpc';
import { type ConformanceCase, expectSame, expectText, expectThat, NotApplicable, reading } from '../case.ts';
import { type Endpoint, exchange, jsonOf } from '../endpoint.ts';
import { call, expectRefusal, hexOf, refusal, textMember, textOf } from '../rpc.ts';

/** A key service: its main listener, and an attested client if there is one. */
export interface KmsTarget {
  readonly endpoint: Endpoint;
  /** The same listener, called with the certificate of an attested machine. */
  readonly attested?: Endpoint | undefined;
  /** App id of that machine. */
  readonly appId?: string | undefined;
}

const APP = '11'.repeat(20);
const MAX_AGE_SECONDS = 300;

function attestedOf({ attested }: KmsTarget): Endpoint {
  if (attested === undefined) throw new NotApplicable('needs --cert and --key of an attested machine');
  return attested;
}

function certificateOf(answer: Record<string, unknown>, name: string): X509Certificate {
  expectText(name, answer[name], /^-----BEGIN CERTIFICATE-----\r?\n/);
  const text = answer[name];
  return reading(name, () => new X509Certificate(text));
}

async function rootOf({ endpoint }: KmsTarget): Promise<string> {
  return hexOf(await call(endpoint, '/prpc/KMS.GetMeta'), 'k256_pubkey', 33);
}

function expectSigner(what: string, message: Uint8Array, signature: string, signer: string): void {
  expectSame(`Bytes of ${what}`, signature.length / 2, 65);
  const found = reading(what, () => toHex(recoverK256(message, fromHex(signature))));
  expectSame(`Signer of ${what}`, found, signer);
}

/** What a key service does. */
export const KMS_CASES: readonly ConformanceCase<KmsTarget>[] = [
  {
    id: 'kms.health',
    checks: '/health answers OK.',
    section: 'kms.md 4.1',
    run: async ({ endpoint }) => {
      const answer = await exchange(endpoint, { method: 'GET', path: '/health' });
      expectSame('Status', answer.status, 200);
      expectSame('Body', textOf(answer.body).trim(), 'OK');
    },
  },
  {
    id: 'kms.wire.prefix',
    checks: 'The prefix KMS. may be there, be missing, or be there twice; another one is not known.',
    section: 'kms.md 1.1',
    run: async ({ endpoint }) => {
      for (const path of ['/prpc/KMS.GetMeta', '/prpc/GetMeta', '/prpc/KMS.KMS.GetMeta'])
        hexOf(await call(endpoint, path), 'k256_pubkey', 33);
      await refusal(endpoint, '/prpc/Admin.GetMeta');
    },
  },
  {
    id: 'kms.wire.encodings',
    checks: 'GET takes the query, POST takes JSON or protobuf, and each answers in its way.',
    section: 'kms.md 1.2',
    run: async ({ endpoint }) => {
      const root = await rootOf({ endpoint });
      const path = '/prpc/KMS.GetMeta';
      const get = await exchange(endpoint, { method: 'GET', path });
      expectSame('k256_pubkey by GET', jsonOf(get)['k256_pubkey'], root);
      const query = await exchange(endpoint, { path: `${path}?json`, body: '' });
      expectSame('k256_pubkey with ?json', jsonOf(query)['k256_pubkey'], root);
      const binary = await exchange(endpoint, { path, body: '' });
      expectText('Content-Type', binary.headers['content-type'], /^application\/octet-stream\b/);
      const meta = reading('GetMetaResponse', () => fromBinary(kms.GetMetaResponseSchema, binary.body));
      expectSame('k256_pubkey in protobuf', toHex(meta.k256Pubkey), root);
      const args = toBinary(kms.AppIdSchema, create(kms.AppIdSchema, { appId: fromHex(APP) }));
      const key = await exchange(endpoint, { path: '/prpc/KMS.GetAppEnvEncryptPubKey', body: args });
      const read = reading('PublicKeyResponse', () => fromBinary(kms.PublicKeyResponseSchema, key.body));
      expectSame('Bytes of public_key', read.publicKey.length, 32);
    },
  },
  {
    id: 'kms.wire.errors',
    checks: 'An error is JSON with the member error; of a protobuf request it is protobuf.',
    section: 'kms.md 1.4',
    run: async ({ endpoint }) => {
      const { error } = await refusal(endpoint, '/prpc/KMS.NoSuchMethod');
      expectText('error', error, /^Service not found: /);
      const args = toBinary(kms.AppIdSchema, create(kms.AppIdSchema, { appId: fromHex('11') }));
      const answer = await exchange(endpoint, { path: '/prpc/KMS.GetAppEnvEncryptPubKey', body: args });
      expectSame('Status', answer.status, 400);
      expectThat(answer.body[0] === 0x0a, 'The body is no protobuf with the text in field 1');
    },
  },
  {
    id: 'kms.wire.malformed-json',
    checks: 'A member that comes twice, a wrong type, bad hex, and text after the value are errors.',
    section: 'kms.md 1.3',
    run: async ({ endpoint }) => {
      const bodies = [
        `{"app_id":"${APP}","app_id":"${APP}"}`,
        '{"app_id":5}',
        '{"app_id":"1"}',
        '{"app_id":"zz"}',
        `{"app_id":"${APP}"} x`,
        '{',
      ];
      for (const body of bodies)
        expectSame(
          `Status of ${body}`,
          (await refusal(endpoint, '/prpc/KMS.GetAppEnvEncryptPubKey', body)).status,
          400,
        );
    },
  },
  {
    id: 'kms.wire.too-large',
    checks: 'A body above every bound is an error, and the service goes on.',
    section: 'kms.md 1.5',
    run: async ({ endpoint }) => {
      const body = `{"app_id":"${'0'.repeat(11 * 2 ** 20)}"}`;
      const headers = { 'Content-Type': 'application/json' };
      const path = '/prpc/KMS.GetAppEnvEncryptPubKey?json';
      // Either an answer or the end of the connection: nobody has to read it all.
      const status = await exchange(endpoint, { path, headers, body }).then(
        (answer) => answer.status,
        () => 413,
      );
      expectThat(status >= 400, `A body of 11 MiB is answered with ${status}`);
      await rootOf({ endpoint });
    },
  },
  {
    id: 'kms.meta.members',
    checks: 'GetMeta has every member, absent ones as null.',
    section: 'kms.md 3',
    run: async ({ endpoint }) => {
      const meta = await call(endpoint, '/prpc/KMS.GetMeta');
      certificateOf(meta, 'ca_cert');
      hexOf(meta, 'k256_pubkey', 33);
      for (const name of ['allow_any_upgrade', 'is_dev'])
        expectThat(typeof meta[name] === 'boolean', `${name} is no boolean`);
      for (const name of ['gateway_app_id', 'kms_contract_address', 'app_auth_implementation'])
        expectThat(meta[name] === null || typeof meta[name] === 'string', `${name} is neither text nor null`);
      expectThat(
        meta['chain_id'] === null || Number.isSafeInteger(meta['chain_id']),
        'chain_id is neither number nor null',
      );
      expectThat(typeof meta['bootstrap_info'] === 'object', 'bootstrap_info is missing');
    },
  },
  {
    id: 'kms.meta.bootstrap',
    checks: 'bootstrap_info has the keys of the root; its evidence is over both.',
    section: 'keys.md 6',
    run: async ({ endpoint }) => {
      const meta = await call(endpoint, '/prpc/KMS.GetMeta');
      const bootstrap = meta['bootstrap_info'] as Record<string, unknown> | null;
      if (bootstrap === null) throw new NotApplicable('the service says nothing of its bootstrap');
      const spki = certificateOf(meta, 'ca_cert').publicKey.export({ type: 'spki', format: 'der' });
      const caKey = hexOf(bootstrap, 'ca_pubkey', 91);
      const k256 = hexOf(bootstrap, 'k256_pubkey', 33);
      expectSame('ca_pubkey', caKey, toHex(spki));
      expectSame('k256_pubkey', k256, meta['k256_pubkey']);
      const evidence = hexOf(bootstrap, 'attestation');
      if (evidence === '') return;
      const { reportData } = reading('attestation', () => decodeAttestation(fromHex(evidence)));
      const expected = bootstrapReportData(fromHex(caKey), fromHex(k256));
      expectSame('Report data of the attestation', toHex(reportData), toHex(expected));
    },
  },
  {
    id: 'kms.temp-ca',
    checks: 'GetTempCaCert gives a CA certificate with its key, and the root of GetMeta.',
    section: 'ra-tls.md 5.3',
    run: async ({ endpoint }) => {
      const answer = await call(endpoint, '/prpc/KMS.GetTempCaCert');
      const certificate = certificateOf(answer, 'temp_ca_cert');
      expectThat(certificate.ca, 'temp_ca_cert is no CA');
      const pem = textMember(answer, 'temp_ca_key');
      expectThat(
        certificate.checkPrivateKey(reading('temp_ca_key', () => createPrivateKey(pem))),
        'temp_ca_key is the key of another certificate',
      );
      const meta = await call(endpoint, '/prpc/KMS.GetMeta');
      expectSame('ca_cert', answer['ca_cert'], meta['ca_cert']);
    },
  },
  {
    id: 'kms.env-key.signatures',
    checks:
      'The environment key of an application is signed by the root, with the time and without; the time is now.',
    section: 'keys.md 5.1',
    run: async (target) => {
      const root = await rootOf(target);
      const answer = await call(target.endpoint, '/prpc/KMS.GetAppEnvEncryptPubKey', { app_id: APP });
      const key = fromHex(hexOf(answer, 'public_key', 32));
      const { timestamp } = answer;
      expectThat(Number.isSafeInteger(timestamp), 'timestamp is no whole number');
      const age = Math.abs(Date.now() / 1000 - Number(timestamp));
      expectThat(age < MAX_AGE_SECONDS, `timestamp is ${Math.round(age)} s away from now`);
      const tag = concatBytes(utf8('dstack-env-encrypt-pubkey:'), fromHex(APP));
      expectSigner('signature', concatBytes(tag, key), hexOf(answer, 'signature'), root);
      const time = new Uint8Array(8);
      new DataView(time.buffer).setBigUint64(0, BigInt(Number(timestamp)));
      expectSigner('signature_v1', concatBytes(tag, time, key), hexOf(answer, 'signature_v1'), root);
    },
  },
  {
    id: 'kms.env-key.stable',
    checks: 'An application has one environment key, and another application another one.',
    section: 'keys.md 3.1',
    run: async ({ endpoint }) => {
      const keyOf = async (app_id: string): Promise<unknown> =>
        (await call(endpoint, '/prpc/KMS.GetAppEnvEncryptPubKey', { app_id }))['public_key'];
      expectSame('A second answer', await keyOf(APP), await keyOf(`0x${APP}`));
      expectThat((await keyOf(APP)) !== (await keyOf('22'.repeat(20))), 'Two applications have one key');
    },
  },
  {
    id: 'kms.env-key.app-id',
    checks: 'An app id that has not 20 bytes is refused.',
    section: 'kms.md 5.7',
    isExtension: true,
    run: async ({ endpoint }) => {
      for (const app_id of ['', '11', '11'.repeat(19), '11'.repeat(21)])
        expectSame(
          `Status for ${app_id.length / 2} bytes`,
          (await refusal(endpoint, '/prpc/KMS.GetAppEnvEncryptPubKey', { app_id })).status,
          400,
        );
    },
  },
  {
    id: 'kms.app-key.stranger',
    checks: 'Without evidence there are no keys of an application: `No attestation provided`.',
    section: 'kms.md 5.2',
    run: async ({ endpoint }) => {
      const path = '/prpc/KMS.GetAppKey';
      for (const args of [{}, { api_version: 1, vm_config: '{}' }]) {
        const { error } = await refusal(endpoint, path, args);
        expectText('error', error, /No attestation provided$/);
      }
    },
  },
  {
    id: 'kms.kms-key.stranger',
    checks: 'Without evidence there are no root keys.',
    section: 'kms.md 5.5',
    run: async ({ endpoint }) => {
      const { error } = await refusal(endpoint, '/prpc/KMS.GetKmsKey', { vm_config: '' });
      expectThat(!/PRIVATE KEY/.test(error), 'The error has a key');
    },
  },
  {
    id: 'kms.sign-cert.version',
    checks: 'SignCert refuses versions but 1 and 2.',
    section: 'kms.md 5.2',
    run: ({ endpoint }) =>
      expectRefusal(
        endpoint,
        '/prpc/KMS.SignCert',
        { api_version: 3, csr: '00', signature: '00' },
        /Unsupported API version: 3/,
      ),
  },
  {
    id: 'kms.sign-cert.garbage',
    checks: 'SignCert refuses a request that cannot be read, and goes on.',
    section: 'ra-tls.md 4.2',
    run: async ({ endpoint }) => {
      for (const api_version of [1, 2])
        for (const csr of ['', '00', 'ff'.repeat(300)])
          await refusal(endpoint, '/prpc/KMS.SignCert', { api_version, csr, signature: 'ff'.repeat(70) });
      await rootOf({ endpoint });
    },
  },
  {
    id: 'kms.clear-image-cache',
    checks: 'ClearImageCache without the token is refused.',
    section: 'kms.md 2',
    run: async ({ endpoint }) => {
      const args = { token: 'wrong', image_hash: 'all', config_hash: 'all' };
      await refusal(endpoint, '/prpc/KMS.ClearImageCache', args);
    },
  },
  {
    id: 'kms.app-key.signature',
    checks: "An attested application's k256 key is signed by the root for its app id.",
    section: 'keys.md 5.1',
    run: async (target) => {
      const answer = await call(attestedOf(target), '/prpc/KMS.GetAppKey', { api_version: 1 });
      const publicKey = reading('k256_key', () => k256PublicKey(fromHex(hexOf(answer, 'k256_key', 32))));
      if (target.appId === undefined) throw new NotApplicable('needs --app-id of the attested machine');
      const message = concatBytes(utf8('dstack-kms-issued:'), fromHex(target.appId), publicKey);
      expectSigner('k256_signature', message, hexOf(answer, 'k256_signature'), await rootOf(target));
    },
  },
  {
    id: 'kms.app-key.members',
    checks: 'GetAppKey answers with the root CA of GetMeta, keys of 32 bytes and both names of the gateway.',
    section: 'kms.md 3',
    run: async (target) => {
      const answer = await call(attestedOf(target), '/prpc/KMS.GetAppKey', { api_version: 1 });
      const meta = await call(target.endpoint, '/prpc/KMS.GetMeta');
      expectSame('ca_cert', answer['ca_cert'], meta['ca_cert']);
      for (const name of ['disk_crypt_key', 'env_crypt_key', 'k256_key']) hexOf(answer, name, 32);
      expectSame('tproxy_app_id', answer['tproxy_app_id'], textMember(answer, 'gateway_app_id'));
      const again = await call(attestedOf(target), '/prpc/KMS.GetAppKey', { api_version: 1 });
      for (const name of ['disk_crypt_key', 'env_crypt_key', 'k256_key'])
        expectSame(`A second ${name}`, again[name], answer[name]);
    },
  },
  {
    id: 'kms.app-key.env-key',
    checks: 'The environment key of an application opens what is sealed for the public one.',
    section: 'keys.md 3.1',
    run: async (target) => {
      const attested = attestedOf(target);
      if (target.appId === undefined) throw new NotApplicable('needs --app-id of the attested machine');
      const { env_crypt_key } = await call(attested, '/prpc/KMS.GetAppKey', { api_version: 1 });
      const answer = await call(target.endpoint, '/prpc/KMS.GetAppEnvEncryptPubKey', {
        app_id: target.appId,
      });
      expectSame('public_key', answer['public_key'], toHex(x25519PublicKey(fromHex(String(env_crypt_key)))));
    },
  },
  {
    id: 'kms.app-key.version',
    checks: 'GetAppKey refuses versions above 1.',
    section: 'kms.md 5.2',
    run: (target) =>
      expectRefusal(
        attestedOf(target),
        '/prpc/KMS.GetAppKey',
        { api_version: 2 },
        /Unsupported API version: 2/,
      ),
  },
  {
    id: 'kms.ready',
    checks: '/ready says whether keys can be released.',
    section: 'kms.md 4.1',
    isExtension: true,
    run: async ({ endpoint }) => {
      const answer = await exchange(endpoint, { method: 'GET', path: '/ready' });
      expectThat(answer.status === 200 || answer.status === 503, `Status ${answer.status}`);
      expectSame('ready', jsonOf(answer)['ready'], answer.status === 200);
    },
  },
  {
    id: 'kms.nonce',
    checks: '/nonce gives another nonce each time, with its time to live.',
    section: 'kms.md 4.4',
    isExtension: true,
    run: async ({ endpoint }) => {
      const get = async () => jsonOf(await exchange(endpoint, { method: 'GET', path: '/nonce' }));
      const [one, other] = [await get(), await get()];
      expectSame('Bytes of the nonce', hexOf(one, 'nonce').length / 2, 73);
      expectText('nonce', one['nonce'], new RegExp(`^${toHex(utf8('dstack-kms-nonce:'))}`));
      expectThat(one['nonce'] !== other['nonce'], 'Two answers have one nonce');
      expectSame('expires_in', one['expires_in'], 300);
    },
  },
  {
    id: 'kms.audit-head',
    checks: 'GetAuditHead gives a head that the audit key signed, and the root signed that key.',
    section: 'kms.md 9.2',
    isExtension: true,
    run: async (target) => {
      const head = await call(target.endpoint, '/prpc/KMS.GetAuditHead');
      const publicKey = hexOf(head, 'public_key', 33);
      const integer = (name: string): Uint8Array => {
        const bytes = new Uint8Array(8);
        new DataView(bytes.buffer).setBigUint64(0, BigInt(Number(head[name])));
        return bytes;
      };
      const message = concatBytes(
        utf8('dstack-kms-audit:'),
        integer('tree_size'),
        integer('timestamp'),
        fromHex(hexOf(head, 'root_hash', 32)),
      );
      expectSigner('signature', message, hexOf(head, 'signature'), publicKey);
      const key = concatBytes(utf8('dstack-kms-audit-key:'), fromHex(publicKey));
      expectSigner('public_key_signature', key, hexOf(head, 'public_key_signature'), await rootOf(target));
    },
  },
];

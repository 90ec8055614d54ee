/** A KMS of the original and ours take each other's place: its key directories, and replication in both directions. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { p256KeyFromPem, p256KeyFromScalar, p256KeyPem } from '@dstack-cloud/keys';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, call } from '../test/ask.ts';
import { writeKeyDirectory } from '../test/key-directory-fixture.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { startReceiver } from '../test/receiver.ts';
import { fullClients, fullEvidence, fullTrust } from '../test/recorded-full.ts';
import { recordedDirectory, writeRecordedDirectory } from '../test/recorded-kms.ts';

describeWithFixtures('root keys of the original', 'kms-original/full/key-directories.json', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab();
  });
  afterAll(() => lab.close());

  const small = fixtureJson<
    Record<string, Record<string, { text?: string; hex?: string; der_hex?: string }>>
  >('kms-original/key-directories.json');

  test.each(['kmsG', 'kmsA', 'kmsB'])(
    'ours starts on %s and leaves every file but rpc.crt as it was',
    async (name) => {
      const recorded = recordedDirectory(name);
      const directory = join(lab.directory, `original-${name}`);
      writeRecordedDirectory(directory, recorded);
      const contents = () =>
        Object.keys(recorded.files).map((file) => [file, readFileSync(join(directory, file), 'hex')]);
      const before = contents();
      const kms = await lab.start({ directory });
      const { roots, rootCa, tempCa } = kms.kms.keys;
      expect([toHex(roots.k256), toHex(roots.caScalar)]).toEqual([
        recorded.root_k256,
        recorded.root_ca_scalar,
      ]);
      expect([toHex(rootCa.key.scalar), toHex(tempCa.key.scalar)]).toEqual([
        recorded.root_ca_scalar,
        recorded.tmp_ca_scalar,
      ]);
      await kms.close();
      const after = contents();
      expect(after.filter(([file]) => file !== 'rpc.crt')).toEqual(
        before.filter(([file]) => file !== 'rpc.crt'),
      );
      expect(recorded.root_k256).toBe(readFileSync(join(directory, 'root-k256.key'), 'hex'));
    },
  );

  test.each(Object.keys(small))(
    'ours starts on the smaller recording’s %s, root keys unchanged',
    async (name) => {
      const files = small[name]!;
      const directory = join(lab.directory, `small-${name.slice(0, 5)}`);
      writeKeyDirectory(directory, files);
      const kms = await lab.start({ directory });
      expect(toHex(kms.kms.keys.roots.k256)).toBe(files['root-k256.key']!.hex);
      const ca = p256KeyFromPem(readFileSync(join(directory, 'root-ca.key'), 'utf8'));
      expect(toHex(ca.pkcs8)).toBe(files['root-ca.key']!.der_hex);
      expect(kms.kms.keys.rootCa.key.scalar).toEqual(ca.scalar);
    },
  );

  describe('replication with the original itself', () => {
    const evidence = fullEvidence();
    const trust = fullTrust(evidence, createPlatform(new Uint8Array(32).fill(5)));
    const original = recordedDirectory('kmsA');
    const pem = (file: string): string => {
      const { text, der_pkcs8_hex: der } = original.files[file]!;
      return text ?? p256KeyPem(p256KeyFromScalar(fromHex(scalarOf(file, der!))));
    };
    const scalarOf = (file: string, der: string): string =>
      file === 'root-ca.key'
        ? original.root_ca_scalar
        : file === 'tmp-ca.key'
          ? original.tmp_ca_scalar
          : der.slice(72, 136);

    test('ours onboards from the original: its certificate and answers as recorded, its root keys unchanged', async () => {
      // The recorded source: its RPC key, its attested certificate, its answers.
      const answers: Record<string, unknown> = {
        '/prpc/GetTempCaCert': {
          temp_ca_cert: pem('tmp-ca.crt'),
          temp_ca_key: pem('tmp-ca.key'),
          ca_cert: pem('root-ca.crt'),
        },
        '/prpc/GetMeta': {
          ca_cert: pem('root-ca.crt'),
          k256_pubkey: '',
          bootstrap_info: null,
          is_dev: false,
        },
        '/prpc/GetKmsKey': {
          temp_ca_key: pem('tmp-ca.key'),
          keys: [{ ca_key: pem('root-ca.key'), k256_key: original.root_k256 }],
        },
      };
      const peer = createTlsServer(
        {
          key: pem('rpc.key'),
          cert: pem('rpc.crt'),
          ca: pem('tmp-ca.crt'),
          requestCert: true,
          rejectUnauthorized: false,
        },
        (request, response) => {
          const path = request.url!.split('?')[0]!;
          request.resume();
          // Root keys only for a client of the temp CA, as the original's TLS has it.
          const authorized = (request.socket as { authorized?: boolean }).authorized === true;
          if (path === '/prpc/GetKmsKey' && !authorized) response.statusCode = 400;
          response.end(
            JSON.stringify(
              response.statusCode === 400 ? { error: 'No attestation provided' } : answers[path],
            ),
          );
        },
      );
      await once(peer.listen(0, '127.0.0.1'), 'listening');
      const url = `https://127.0.0.1:${(peer.address() as AddressInfo).port}`;
      const receiver = await startReceiver(
        lab,
        join(lab.directory, 'from-original'),
        {},
        { trust, now: () => evidence.now },
      );
      const { status, json } = await call(
        receiver.port,
        'Onboard',
        { source_url: url, domain: 'kms.lab.test' },
        { plain: true },
      );
      expect([status, json['error']]).toEqual([200, undefined]);
      await call(receiver.port, 'Finish', {}, { plain: true });
      const { kms } = await receiver.serving;
      expect(toHex(kms.keys.roots.k256)).toBe(original.root_k256);
      expect(toHex(kms.keys.roots.caScalar)).toBe(original.root_ca_scalar);
      expect(toHex(kms.keys.tempCa.key.scalar)).toBe(original.tmp_ca_scalar);
      peer.close();
      peer.closeAllConnections();
    });

    test('the original onboards from ours: its certificate gets one key set, in the recorded form', async () => {
      const directory = join(lab.directory, 'for-original');
      writeRecordedDirectory(directory, original);
      const ours = await lab.start({ directory, options: { trust, now: () => evidence.now } });
      // The recorded replica's own certificate is of another temp CA: evidence is what counts.
      const answer = await ask(ours.main.port, '/prpc/GetKmsKey?json', {
        body: '{"vm_config":""}',
        client: fullClients(evidence)['kmsB'],
      });
      expect(answer.status).toBe(200);
      expect(JSON.parse(answer.body.toString())).toEqual({
        temp_ca_key: pem('tmp-ca.key'),
        keys: [{ ca_key: pem('root-ca.key'), k256_key: original.root_k256 }],
      });
    });
  });
});

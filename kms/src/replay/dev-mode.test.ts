/** The original with auth type dev, without image verification and without evidence in its certificate, replayed. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { p256KeyFromPem } from '@dstack-cloud/keys';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call } from '../test/ask.ts';
import { bytesOf } from '../test/recorded.ts';
import { fullEvidence } from '../test/recorded-full.ts';
import {
  type RecordedDirectory,
  type RecordedKms,
  recordedDirectory,
  startRecordedKms,
} from '../test/recorded-kms.ts';
import { replay } from '../test/replay-item.ts';
import { exchanges } from '../test/replay-plan.ts';

const answerOf = (id: string): Record<string, unknown> => {
  const item = exchanges('dev-mode').find((candidate) => candidate.id === id)!;
  return JSON.parse(new TextDecoder().decode(bytesOf(item.response!.body!))) as Record<string, unknown>;
};

/** Its key directory was not recorded, but it handed out all its keys. */
function devDirectory(): RecordedDirectory {
  const answer = answerOf('kmskey-app1');
  const [keys] = answer['keys'] as { ca_key: string; k256_key: string }[];
  const temp = answerOf('tempca');
  const der = (pem: string): string => toHex(decodePem(pem, 'PRIVATE KEY'));
  const scalar = (pem: string): string => toHex(p256KeyFromPem(pem).scalar);
  const other = recordedDirectory('kmsG').files;
  return {
    root_ca_scalar: scalar(keys!.ca_key),
    root_k256: keys!.k256_key,
    tmp_ca_scalar: scalar(answer['temp_ca_key'] as string),
    files: {
      'root-ca.key': { mode: '0o600', der_pkcs8_hex: der(keys!.ca_key) },
      'root-ca.crt': { mode: '0o644', text: temp['ca_cert'] as string },
      'root-k256.key': { mode: '0o600', hex: keys!.k256_key },
      'tmp-ca.key': { mode: '0o600', der_pkcs8_hex: der(answer['temp_ca_key'] as string) },
      'tmp-ca.crt': { mode: '0o644', text: temp['temp_ca_cert'] as string },
      'rpc.key': other['rpc.key']!,
      'rpc-domain': other['rpc-domain']!,
    },
  };
}

describeWithFixtures('replay of kms-original/full: dev mode', 'kms-original/full/dev-mode.json', () => {
  const start = (core: Record<string, unknown> = {}) =>
    startRecordedKms({
      directory: devDirectory(),
      core: {
        auth_api: { type: 'dev', dev: { dangerously_allow_everything: true } },
        attest_rpc_cert: false,
        ...core,
      },
    });
  const app1 = fullEvidence().clients.find(({ name }) => name === 'app1')!;
  const mrAggregated = String(app1.boot_auth_app_body[0]!['mrAggregated']);
  let kms: RecordedKms;
  beforeAll(async () => {
    // Root keys under dev are for listed measurements only (5.6): that of the recorded caller is listed.
    kms = await start({ image: { verify: false }, dev_kms_allowed_mr_aggregated: [mrAggregated] });
  });
  afterAll(() => kms.close());

  test.each(exchanges('dev-mode'))('$id', (item) =>
    replay(kms, 'dev-mode', item, { port: kms.running.main.port, plain: false }),
  );

  test('kmskey-app1 without the list: root keys for nobody', async () => {
    const strict = await start();
    const client = strict.clientOf(exchanges('dev-mode').find(({ id }) => id === 'kmskey-app1')!);
    const { status, json } = await call(strict.running.main.port, 'GetKmsKey', {}, { client });
    expect([status, json['code']]).toEqual([400, 'MEASUREMENT_NOT_FOUND']);
    await strict.close();
  });

  test('without attest_rpc_cert the server shows no evidence, as there', () => {
    const pem = readFileSync(join(kms.directory, 'rpc.crt'), 'utf8');
    const { usage, attestation } = parseRaTlsCertificate(decodePem(pem, 'CERTIFICATE'));
    expect([usage, attestation]).toEqual(['kms:rpc', undefined]);
  });
});

/** The recorded exchanges with the original, replayed against ours from the same key directory and client. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyFromPem, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, OID } from '@dstack-cloud/ra-tls';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { type RunningKms, startKms } from '../start-kms.ts';
import { createLog } from '../telemetry/log.ts';
import { ask, type ClientIdentity } from '../test/ask.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { writeKeyDirectory } from '../test/key-directory-fixture.ts';
import { bytesOf, type RecordedCase, type Transcript, trustWith } from '../test/recorded.ts';
import { agentOf, simulatedGuest } from '../test/simulated-guest.ts';
import { firstRecordingDifferences } from '../test/wanted-differences.ts';
import { startWebhook, type Webhook } from '../test/webhook.ts';

/** Exchanges with the admin listener; the one with `method on` is with the main listener. */
const ADMIN = /^admin (?!method on)/;
const NOT_COMPARED = ['get /metrics'];

describeWithFixtures('replay of kms-original', 'kms-original/transcript.json', () => {
  const transcript = fixtureJson<Transcript>('kms-original/transcript.json');
  const directories = fixtureJson<
    Record<string, Record<string, { text?: string; hex?: string; der_hex?: string }>>
  >('kms-original/key-directories.json');
  const client = fixtureJson<{ cert_der: string; key_pkcs8: string; attestation: string }>(
    'kms-original/client-app.json',
  );
  const envCase = transcript.cases.find(({ name }) => name === 'GetAppEnvEncryptPubKey json')!;
  const now = (JSON.parse(envCase.response!.utf8!) as { timestamp: number }).timestamp;
  const metaCase = transcript.cases.find(({ name }) => name === 'GetMeta json post')!;
  const meta = JSON.parse(metaCase.response!.utf8!) as Record<string, unknown>;
  const keyCase = transcript.cases.find(({ name }) => name === 'GetAppKey json')!;
  const gatewayAppId = (JSON.parse(keyCase.response!.utf8!) as { gateway_app_id: string }).gateway_app_id;
  const directory = mkdtempSync(join(tmpdir(), 'kms-replay-'));
  const platform = createPlatform(new Uint8Array(32).fill(9));
  let webhook: Webhook;
  let running: RunningKms;
  let clients: Record<string, ClientIdentity | undefined>;

  beforeAll(async () => {
    webhook = await startWebhook(
      {
        body: {
          status: 'ok',
          kmsContractAddr: meta['kms_contract_address'],
          gatewayAppId: meta['gateway_app_id'],
          chainId: meta['chain_id'],
          appImplementation: meta['app_auth_implementation'],
        },
      },
      { body: { isAllowed: true, gatewayAppId, reason: '' } },
    );
    writeKeyDirectory(directory, directories['kms-a']!);
    const config = checkConfig(
      {
        rpc: { address: '127.0.0.1', port: 0 },
        core: {
          cert_dir: directory,
          image: { verify: false },
          auth_api: { type: 'webhook', webhook: { url: webhook.url } },
          rate_limit: { enabled: false },
          admin: { enabled: true, port: 0, auth_token: 'lab-admin-token' },
          attestation: { insecure_allow_external_trust_anchors: true },
        },
      },
      {},
    );
    running = await startKms(config, {
      log: createLog('silent'),
      now: () => now,
      agent: agentOf(simulatedGuest({ platform })),
      trust: trustWith(platform, now),
    });
    const tempCa = p256KeyFromPem(
      encodePem('PRIVATE KEY', fromHex(directories['kms-a']!['tmp-ca.key']!.der_hex!)),
    );
    const attestation = fromHex(client.attestation);
    const flipped = attestation.slice();
    flipped[1000]! ^= 1;
    const clientKey = encodePem('PRIVATE KEY', fromHex(client.key_pkcs8));
    const forged = (content: Uint8Array | undefined, key = p256KeyFromPem(clientKey)): ClientIdentity => ({
      cert: forgeCertificate(key, content === undefined ? [] : [{ oid: OID.attestation, content }], {
        issuerKey: tempCa,
      }),
      key: p256KeyPem(key),
    });
    clients = {
      none: undefined,
      'temp-ca app': { cert: certificatePem(fromHex(client.cert_der)), key: clientKey },
      'self-signed app': {
        cert: forgeCertificate(p256KeyFromPem(clientKey), [{ oid: OID.attestation, content: attestation }]),
        key: clientKey,
      },
      'temp-ca no attestation': forged(undefined),
      'temp-ca, attestation bound to another key': forged(attestation, generateP256Key()),
      'temp-ca, byte 1000 of the attestation flipped': forged(flipped),
      'temp-ca, attestation cut to 200 bytes': forged(attestation.slice(0, 200)),
    };
  });

  afterAll(async () => {
    await running.close();
    webhook.close();
    rmSync(directory, { recursive: true });
  });

  /** How the recording's auth API was told to answer; the recording says it by the name of the case. */
  function policyOf(name: string): Webhook['policy'] {
    const deny = (reason: string) => ({ body: { isAllowed: false, gatewayAppId: '', reason } });
    if (name === 'GetAppKey denied') return { app: deny('Compose hash not allowed') };
    if (name.endsWith('answers 500')) return { app: { status: 500, body: { error: 'boom' } } };
    if (name.endsWith('answers no JSON')) return { app: { raw: 'not json' } };
    if (/the KMS itself is denied|GetKmsKey denied/.test(name))
      return { kms: deny('KMS aggregated MR not allowed') };
    return {};
  }

  test.each(transcript.cases)('$name', async (recorded) => {
    expect(Object.keys(clients)).toContain(recorded.client);
    webhook.policy = policyOf(recorded.name);
    webhook.asked.length = 0;
    const { method, path, headers, body } = recorded.request;
    const admin = ADMIN.test(recorded.name);
    const answer = await ask((admin ? running.admin! : running.main).port, path, {
      method,
      plain: admin,
      body: bytesOf(body),
      headers: Object.fromEntries(headers),
      client: clients[recorded.client],
    });
    const wanted = firstRecordingDifferences[recorded.name];
    expect(answer.status).toBe(wanted?.status ?? Number(/^HTTP\/1.1 (\d+)/.exec(recorded.status)?.[1]));
    if (wanted?.status !== undefined || NOT_COMPARED.includes(recorded.name)) return;
    expect(answer.headers['content-type']?.toString().split(';')[0]).toBe(
      recorded.headers.find(([name]) => name === 'content-type')?.[1].split(';')[0],
    );
    if (admin) expect(answer.headers['x-app-version']).toBeUndefined();
    else expect(answer.headers['x-app-version']).toMatch(/^v\d+\.\d+\.\d+ \(.+\)$/);
    if (String(answer.headers['content-type']).startsWith('text/html')) return;
    compareBodies(recorded, answer.body, wanted?.error);
  });

  function compareBodies(recorded: RecordedCase, found: Buffer, text: RegExp | undefined): void {
    const expected = Buffer.from(bytesOf(recorded.response));
    if (answerIsJson(expected)) {
      expect(normalise(JSON.parse(found.toString()), recorded.name)).toEqual(
        text === undefined
          ? normalise(JSON.parse(expected.toString()), recorded.name)
          : { error: expect.stringMatching(text) },
      );
      return;
    }
    if (text !== undefined) expect(found.toString('latin1')).toMatch(text);
    else if (!isTimed(recorded.name)) expect(toHex(found)).toBe(toHex(expected));
    else expect(toHex(found.subarray(0, 101))).toBe(toHex(expected.subarray(0, 101)));
  }

  /** GetAppEnvEncryptPubKey carries the time, GetMeta our `simulated`: both are compared as JSON instead. */
  function isTimed(name: string): boolean {
    return /^(GetAppEnvEncryptPubKey|GetMeta) protobuf/.test(name);
  }

  /** Drops what cannot or must not be equal, and only that. */
  function normalise(value: unknown, name: string): unknown {
    if (typeof value !== 'object' || value === null) return value;
    const { code, simulated, ...rest } = value as Record<string, unknown>;
    if (code !== undefined) expect(code).toMatch(/^[A-Z_]+$/);
    if (simulated !== undefined) expect(simulated).toBe(true);
    if (name.startsWith('GetAppEnvEncryptPubKey') && 'timestamp' in rest) {
      return { ...rest, timestamp: 0, signature_v1: '' };
    }
    if (name.startsWith('SignCert') && 'certificate_chain' in rest) {
      return { count: (rest['certificate_chain'] as string[]).length };
    }
    return rest;
  }

  test('asks the auth API what the original asked about the client', async () => {
    webhook.policy = {};
    webhook.asked.length = 0;
    const { path, body } = keyCase.request;
    await ask(running.main.port, path, { body: bytesOf(body), client: clients['temp-ca app'] });
    const asked = webhook.asked.find((request) => request.path === '/bootAuth/app');
    const recorded = keyCase.webhook.find(({ url }) => url === '/bootAuth/app')!;
    expect(JSON.parse(asked!.body)).toMatchObject(JSON.parse(recorded.body) as object);
  });
});

function answerIsJson(body: Buffer): boolean {
  const first = body[0];
  return first === 0x7b || body.toString() === 'null';
}

/** The larger recording (image verification and self-authorisation on), replayed against ours. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { p256KeyFromScalar } from '@dstack-cloud/keys';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkConfig } from './config/check-config.ts';
import { type RunningKms, startKms } from './start-kms.ts';
import { createLog } from './telemetry/log.ts';
import { ask, type ClientIdentity } from './test/ask.ts';
import { certificateForms } from './test/certificate-forms.ts';
import { writeKeyDirectory } from './test/key-directory-fixture.ts';
import { bytesOf } from './test/recorded.ts';
import { type FullItem, fullClients, fullEvidence, fullItems, fullTrust } from './test/recorded-full.ts';
import { agentOf, simulatedGuest } from './test/simulated-guest.ts';
import { differenceOf } from './test/wanted-differences.ts';
import { startWebhook, type Webhook } from './test/webhook.ts';

type Directory = {
  files: Record<string, { text?: string; hex?: string; der_pkcs8_hex?: string }>;
  root_ca_scalar: string;
  tmp_ca_scalar: string;
};

describeWithFixtures('replay of kms-original/full', 'kms-original/full/main-rpc.json', () => {
  const evidence = fullEvidence();
  const clients = fullClients(evidence);
  const { directories } = fixtureJson<{ directories: Record<string, Directory> }>(
    'kms-original/full/key-directories.json',
  );
  const golden = directories['kmsG']!;
  const forms = certificateForms(evidence.clients[0]!, {
    temp: p256KeyFromScalar(fromHex(golden.tmp_ca_scalar)),
    root: p256KeyFromScalar(fromHex(golden.root_ca_scalar)),
  });
  const directory = mkdtempSync(join(tmpdir(), 'kms-full-'));
  const platform = createPlatform(new Uint8Array(32).fill(8));
  const sets = { main: fullItems('main-rpc'), mtls: fullItems('mtls-rpc'), signcert: fullItems('signcert') };
  const meta = JSON.parse(sets.main[0]!.response!.body!.utf8!) as Record<string, unknown>;
  const key = JSON.parse(sets.mtls[0]!.response!.body!.utf8!) as Record<string, unknown>;
  let webhook: Webhook;
  let running: RunningKms;

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
      { body: { isAllowed: true, gatewayAppId: key['gateway_app_id'], reason: '' } },
    );
    const files = Object.entries(golden.files).map(([name, { der_pkcs8_hex: der, ...rest }]) => [
      name,
      der === undefined ? rest : { der_hex: der },
    ]);
    writeKeyDirectory(directory, Object.fromEntries(files));
    const config = checkConfig(
      {
        rpc: { address: '127.0.0.1', port: 0 },
        core: {
          cert_dir: directory,
          auth_api: { type: 'webhook', webhook: { url: webhook.url } },
          rate_limit: { enabled: false },
          image: {
            cache_dir: join(directory, 'cache'),
            download_url: 'http://127.0.0.1:9/{OS_IMAGE_HASH}.tar.gz',
          },
          admin: { enabled: true, port: 0, auth_token: 'lab-admin-token' },
        },
      },
      {},
    );
    running = await startKms(config, {
      log: createLog('silent'),
      now: () => evidence.now,
      agent: agentOf(simulatedGuest({ platform })),
      trust: fullTrust(evidence, platform),
    });
  });

  afterAll(async () => {
    await running.close();
    webhook.close();
    rmSync(directory, { recursive: true });
  });

  /** The certificate that the recording used: a guest's as it is recorded, or one of the forms made anew. */
  function clientOf({ id, client_cert: name = 'none' }: FullItem): ClientIdentity | 'none' | undefined {
    if (name === 'none') return 'none';
    const guest = /attestation of guest (\w+) in extension \.8/.exec(name)?.[1];
    if (guest !== undefined) return clients[guest];
    // The longest beginning: `cert-legacy-12` is not `cert-legacy-1-only`.
    const form = Object.keys(forms)
      .filter((beginning) => id.startsWith(beginning))
      .sort((a, b) => b.length - a.length)[0];
    return form === undefined ? undefined : forms[form];
  }

  async function replay(item: FullItem, port: number, plain: boolean): Promise<void> {
    webhook.policy = item.webhook_policy ?? {};
    const client = clientOf(item);
    const { method, path, headers = [], body } = item.request!;
    const answer = await ask(port, path, {
      method,
      body: bytesOf(body ?? null),
      headers: Object.fromEntries(headers),
      plain,
      client: client === 'none' ? undefined : client,
    });
    const difference = differenceOf(item.id);
    const status = Number(/^HTTP\/1.1 (\d+)/.exec(item.response?.status ?? '')?.[1]);
    expect(answer.status).toBe(difference?.status ?? status);
    const recorded = Buffer.from(bytesOf(item.response?.body ?? null));
    const found = answer.body;
    if (difference?.error !== undefined) {
      expect(found.toString()).toMatch(difference.error);
    } else if (difference?.status === undefined) {
      compare(item, recorded, found, String(answer.headers['content-type']));
    }
  }

  /** Bodies alike, except for what no two answers share: times, signatures over them, certificates just made. */
  function compare(item: FullItem, recorded: Buffer, found: Buffer, type: string): void {
    if (/text\/html|text\/plain/.test(type) || item.request!.method === 'HEAD') return;
    if (type === 'application/octet-stream') {
      // Times, and certificates just made, differ; what stands before them does not.
      const same = /^envpub-binary/.test(item.id) ? 101 : item.id === 'v2-binary' ? 1 : recorded.length;
      expect(found.subarray(0, same).toString('hex')).toBe(recorded.subarray(0, same).toString('hex'));
      return;
    }
    expect(mask(JSON.parse(found.toString()))).toEqual(mask(JSON.parse(recorded.toString())));
  }

  function mask(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value;
    const { code: _code, simulated: _simulated, ...rest } = value as Record<string, unknown>;
    if ('signature_v1' in rest) return { ...rest, timestamp: 0, signature_v1: '' };
    if ('certificate_chain' in rest) return { certificates: (rest['certificate_chain'] as string[]).length };
    return rest;
  }

  const usable = (items: readonly FullItem[]): FullItem[] =>
    items.filter(
      (item) =>
        item.request !== undefined &&
        (item.response?.status !== undefined || differenceOf(item.id)?.status !== undefined) &&
        item.request.body?.note === undefined &&
        clientOf(item) !== undefined &&
        differenceOf(item.id)?.skip !== true,
    );

  describe('recorded guests', () => {
    // app2 has no event instance-id, which ours demands; appbadid was refused there too.
    const guests = evidence.clients.filter(({ name }) => !['app2', 'appbadid'].includes(name));
    test.each(guests)(
      '$name gets the recorded keys, and the auth API hears the same of it',
      async (guest) => {
        webhook.policy = {};
        webhook.asked.length = 0;
        const answer = await ask(running.main.port, '/prpc/GetAppKey?json', {
          body: '{"api_version":1,"vm_config":""}',
          client: clients[guest.name],
        });
        expect([guest.name, answer.status, answer.status === 200 ? '' : answer.body.toString()]).toEqual([
          guest.name,
          200,
          '',
        ]);
        const { ca_cert: _cert, ...keys } = guest.response;
        expect(JSON.parse(answer.body.toString())).toMatchObject(keys);
        const asked = webhook.asked.find(({ path }) => path === '/bootAuth/app');
        expect(JSON.parse(asked?.body ?? 'null')).toMatchObject(guest.boot_auth_app_body[0]!);
      },
    );
  });

  describe('main listener', () => {
    test.each(usable(sets.main))('$id', (item) => replay(item, running.main.port, false));
  });
  describe('attested clients', () => {
    test.each(usable(sets.mtls))('$id', (item) => replay(item, running.main.port, false));
  });
  describe('SignCert', () => {
    test.each(usable(sets.signcert))('$id', (item) => replay(item, running.main.port, false));
  });
  describe('admin listener', () => {
    test.each(usable(fullItems('admin')))('$id', (item) => replay(item, running.admin!.port, true));
  });
});

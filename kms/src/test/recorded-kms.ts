import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { p256KeyFromScalar } from '@dstack-cloud/keys';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { fixtureJson } from '@dstack-cloud/test/fixtures';
import { checkConfig } from '../config/check-config.ts';
import type { Trust } from '../evidence/trust.ts';
import { type RunningKms, startKms } from '../start-kms.ts';
import { createLog } from '../telemetry/log.ts';
import type { ClientIdentity } from './ask.ts';
import { certificateForms } from './certificate-forms.ts';
import { writeKeyDirectory } from './key-directory-fixture.ts';
import { nitroForms } from './nitro-forms.ts';
import { type FullItem, fullClients, fullEvidence, fullItems, fullTrust } from './recorded-full.ts';
import { agentOf, simulatedGuest } from './simulated-guest.ts';
import { startWebhook, type Webhook } from './webhook.ts';

/** A key directory as the larger recording holds it. */
export type RecordedDirectory = {
  readonly files: Readonly<
    Record<string, { mode: string; text?: string; hex?: string; der_pkcs8_hex?: string }>
  >;
  readonly root_ca_scalar: string;
  readonly root_k256: string;
  readonly tmp_ca_scalar: string;
};

/** Ours on a key directory of the larger recording, with its clients and an auth API that answers as recorded. */
export type RecordedKms = {
  readonly running: RunningKms;
  readonly webhook: Webhook;
  readonly directory: string;
  /** The clock of the KMS, unix seconds. */
  readonly clock: { now: number };
  /** The recording's certificate for this exchange; `none` without one. @throws when nobody knows how to make it */
  clientOf(item: FullItem): ClientIdentity | undefined;
  close(): Promise<void>;
};

export function recordedDirectory(name: string): RecordedDirectory {
  const { directories } = fixtureJson<{ directories: Record<string, RecordedDirectory> }>(
    'kms-original/full/key-directories.json',
  );
  return directories[name]!;
}

/** Writes such a directory as the original left it. */
export function writeRecordedDirectory(path: string, { files }: RecordedDirectory): void {
  const written = Object.entries(files).map(([name, { der_pkcs8_hex: der, text, hex }]) => [
    name,
    der === undefined ? (text === undefined ? { hex: hex ?? '' } : { text }) : { der_hex: der },
  ]);
  writeKeyDirectory(path, Object.fromEntries(written));
}

/** Answers of the recording's auth API that no exchange asked otherwise for. */
function recordedWebhook(): Promise<Webhook> {
  const bodyOf = (file: 'main-rpc' | 'mtls-rpc'): Record<string, unknown> =>
    JSON.parse(fullItems(file)[0]!.response!.body!.utf8!) as Record<string, unknown>;
  const meta = bodyOf('main-rpc');
  return startWebhook(
    {
      body: {
        status: 'ok',
        kmsContractAddr: meta['kms_contract_address'],
        gatewayAppId: meta['gateway_app_id'],
        chainId: meta['chain_id'],
        appImplementation: meta['app_auth_implementation'],
      },
    },
    { body: { isAllowed: true, gatewayAppId: bodyOf('mtls-rpc')['gateway_app_id'], reason: '' } },
  );
}

/**
 * @param core changes to the configuration
 * @param trustOf changes to what evidence is judged with
 */
export async function startRecordedKms(
  options: {
    core?: Record<string, unknown>;
    directory?: RecordedDirectory;
    trustOf?: (trust: Trust) => Trust;
  } = {},
): Promise<RecordedKms> {
  const evidence = fullEvidence();
  const files = options.directory ?? recordedDirectory('kmsG');
  const directory = mkdtempSync(join(tmpdir(), 'kms-recorded-'));
  const platform = createPlatform(new Uint8Array(32).fill(8));
  const webhook = await recordedWebhook();
  const clock = { now: evidence.now };
  writeRecordedDirectory(directory, files);
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
        ...options.core,
      },
    },
    {},
  );
  const trust = fullTrust(evidence, platform);
  const running = await startKms(config, {
    log: createLog('silent'),
    now: () => clock.now,
    agent: agentOf(simulatedGuest({ platform })),
    trust: options.trustOf?.(trust) ?? trust,
  });
  const authorities = {
    temp: p256KeyFromScalar(fromHex(files.tmp_ca_scalar)),
    root: p256KeyFromScalar(fromHex(files.root_ca_scalar)),
  };
  const guests = fullClients(evidence);
  const forms = certificateForms(evidence.clients[0]!, authorities);
  const enclaves = nitroForms(evidence, authorities.temp);
  return {
    running,
    webhook,
    directory,
    clock,
    clientOf({ id, client_cert: name = 'none' }) {
      if (name === 'none') return undefined;
      const guest = /attestation of (?:guest )?(\w+)(?: in extension \.8)?$/.exec(name)?.[1];
      if (guest !== undefined && guests[guest] !== undefined) return guests[guest];
      if (name.includes('Nitro: ')) return enclaves(name.replace(/^.*Nitro: /, ''), clock.now);
      // The longest beginning: `cert-legacy-12` is not `cert-legacy-1-only`.
      const form = Object.keys(forms)
        .filter((beginning) => id.startsWith(beginning))
        .sort((a, b) => b.length - a.length)[0];
      if (form === undefined) throw new Error(`${id}: no client "${name}"`);
      return forms[form];
    },
    async close() {
      await running.close();
      webhook.close();
      rmSync(directory, { recursive: true });
    },
  };
}

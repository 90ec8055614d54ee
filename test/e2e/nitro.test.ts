/** The key path of AWS Nitro, from an image to a signature with the application's key; see `HOW_IT_RUNS` for what is simulated. */
import { createPublicKey, verify } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addComposeHash, addOsImageHash, deployApp } from '@dstack-cloud/contracts';
import { fromHex } from '@dstack-cloud/encoding';
import { issuedKeyMessage, recoverK256 } from '@dstack-cloud/keys';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import {
  buildEnclaveImage,
  type EnclaveImage,
  type EnclaveRun,
  HOW_IT_RUNS,
  type RunEnclaveOptions,
  runEnclaveImage,
  simulatedModule,
} from '../harness/enclave-lab.ts';
import { chainPolicyConfig, type LabChain, startLabChain } from '../harness/kms-chain.ts';
import { type KmsHost, type KmsLab, startKmsLab, tempCa } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';

/** What the documented template has, filled in. */
const ENTRYPOINT = `#!/bin/sh
KMS_URL="__KMS_URL__"
APP_ID="__APP_ID__"
exec node /opt/dstack/dstack-enclave-init.js --kms-url "$KMS_URL" --app-id "$APP_ID" --root-ca /app/root_ca.pem --heartbeat -- node /app/sign.mjs
`;
/** The application: signs with its key, and says what is public. */
const APPLICATION = `
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
const keys = JSON.parse(readFileSync(process.env.DSTACK_KEYS_FILE, 'utf8'));
const sec1 = Buffer.concat([Buffer.from('302e0201010420', 'hex'), Buffer.from(keys.k256_key, 'hex'), Buffer.from('a00706052b8104000a', 'hex')]);
const key = createPrivateKey({ key: sec1, format: 'der', type: 'sec1' });
const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
const signature = sign('sha256', Buffer.from('signed in the enclave'), key);
console.log(JSON.stringify({ spki: spki.toString('hex'), signature: signature.toString('hex'), issued: keys.k256_signature, proxy: process.env.HTTPS_PROXY }));
process.exitCode = 7;
`;

describeWithPrograms('AWS Nitro', ['unshare', 'chroot', 'busybox', 'cpio'], () => {
  let lab: KmsLab;
  let chain: LabChain;
  let kms: KmsProcess;
  let impostor: KmsProcess;
  let appId: string;
  let image: EnclaveImage;
  const honest = simulatedModule(9, undefined);

  beforeAll(async () => {
    lab = await startKmsLab();
    chain = await startLabChain(lab, 1);
    const nitroRoot = join(lab.directory, 'nitro-root.pem');
    writeFileSync(nitroRoot, honest.rootPem);
    const attestation = { root_ca: { aws_nitro_enclave: nitroRoot } };
    const policy = chainPolicyConfig(chain, [chain.anvil.rpcUrl]);
    const host = await lab.host('nitro', { rpc: { workers: 1 }, core: { auth_api: policy, attestation } });
    await chain.registerKms(host);
    kms = await started(host);
    impostor = await started(await lab.host('impostor', { rpc: { workers: 1 }, core: { attestation } }));
    ({ appId } = await deployApp({ client: chain.client, kms: chain.kms, allowAnyDevice: true }));
    image = await buildImage('registered', APPLICATION);
    await register(image);
  }, 240_000);
  afterAll(async () => {
    await chain?.stop();
    await lab?.stop();
  });

  /** As `serve`, with more patience: two key services and a chain start beside each other. */
  async function started(host: KmsHost): Promise<KmsProcess> {
    const service = host.run();
    for (let tries = 1; ; tries++) {
      try {
        await service.until('dstack-kms started');
        return service;
      } catch (error) {
        if (tries === 4 || service.process.exitCode !== null) throw error;
      }
    }
  }

  async function buildImage(name: string, application: string): Promise<EnclaveImage> {
    const folder = join(lab.directory, name);
    mkdirSync(folder);
    const { ca_cert: root = '' } = JSON.parse((await callKms(kms.url, 'GetTempCaCert')).body) as Record<
      string,
      string
    >;
    const entrypoint = ENTRYPOINT.replace('__KMS_URL__', kms.url).replace('__APP_ID__', appId);
    const files = { 'app/entrypoint.sh': entrypoint, 'app/sign.mjs': application, 'app/root_ca.pem': root };
    return await buildEnclaveImage(folder, { files, command: ['/bin/sh', '/app/entrypoint.sh'] });
  }

  async function register({ osImageHash }: EnclaveImage): Promise<void> {
    await addOsImageHash(chain.client, chain.kms, `0x${osImageHash}`);
    await addComposeHash(chain.client, appId as `0x${string}`, `0x${osImageHash}`);
  }

  async function run(name: string, options: Partial<RunEnclaveOptions> = {}): Promise<EnclaveRun> {
    const folder = join(lab.directory, `run-${name}`);
    mkdirSync(folder);
    const { host } = new URL(kms.url);
    const nitro = simulatedModule(9, image.pcrs);
    return await runEnclaveImage({ folder, image, nitro, allow: host, ...options });
  }

  const refused = (found: EnclaveRun, sentence: RegExp): void => {
    expect(found.report, found.console).toMatchObject({ stage: 'keys', exit_code: 1 });
    expect(found.report.error).toMatch(sentence);
    expect(found.exitCode).toBe(1);
    expect(() => statSync(join(found.root, 'var/run/dstack/keys.json'))).toThrow();
  };

  test('nitro-key-path: an image is built, registered, run; it gets its keys over vsock, and signs', async () => {
    console.info(HOW_IT_RUNS);
    const found = await run('key-path');
    expect(found.report, found.console).toEqual({ stage: 'ended', exit_code: 7 });
    expect([found.exitCode, found.heartbeats]).toEqual([7, 1]);
    const said = JSON.parse(found.console.split('\n').find((line) => line.startsWith('{')) ?? '') as Record<
      string,
      string
    >;
    const spki = Buffer.from(said['spki']!, 'hex');
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    const message = Buffer.from('signed in the enclave');
    expect(verify('sha256', message, key, Buffer.from(said['signature']!, 'hex'))).toBe(true);
    const point = spki.subarray(-65);
    const compressed = Uint8Array.of(2 + (point[64]! & 1), ...point.subarray(1, 33));
    const issuer = recoverK256(
      issuedKeyMessage(fromHex(appId.slice(2)), compressed),
      fromHex(said['issued']!),
    );
    const meta = JSON.parse((await callKms(kms.url, 'GetMeta')).body) as Record<string, string>;
    expect(Buffer.from(issuer).toString('hex')).toBe(meta['k256_pubkey']);
    expect(said['proxy']).toBe('http://127.0.0.1:3128');

    const file = join(found.root, 'var/run/dstack/keys.json');
    expect((statSync(file).mode & 0o777).toString(8)).toBe('600');
    const keys = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
    const seen = Buffer.concat([
      found.seenByHost,
      Buffer.from(found.console),
      Buffer.from(JSON.stringify(found.report)),
    ]);
    expect(seen.length).toBeGreaterThan(4096);
    for (const name of ['k256_key', 'env_crypt_key', 'disk_crypt_key']) {
      const secret = Buffer.from(keys[name]!, 'hex');
      expect(secret.length).toBe(32);
      for (const form of [secret, secret.toString('hex'), secret.toString('base64')])
        expect(seen.includes(form), name).toBe(false);
    }
  }, 60_000);

  test('nitro-wrong-image: another image, and the same with one word changed, get nothing', async () => {
    const other = await buildImage('other', `${APPLICATION}\n// changed\n`);
    expect(other.osImageHash).not.toBe(image.osImageHash);
    const found = await run('wrong-image', { image: other, nitro: simulatedModule(9, other.pcrs) });
    refused(found, /The KMS refuses keys: this image is not registered/);
  }, 60_000);

  test('nitro-debug-mode: an enclave whose registers are zero gets nothing, whatever is registered', async () => {
    const zero = `0x${'00'.repeat(32)}` as const;
    await addOsImageHash(chain.client, chain.kms, zero).catch(() => undefined);
    await addComposeHash(chain.client, appId as `0x${string}`, zero).catch(() => undefined);
    const found = await run('debug', { nitro: simulatedModule(9, undefined) });
    refused(found, /The KMS refuses keys: the enclave runs in debug mode/);
  }, 60_000);

  test('nitro-stale-document: a document that was held back gets nothing', async () => {
    const found = await run('stale', { now: () => Date.now() - 400_000 });
    refused(found, /The KMS refuses keys: the attestation document is too old/);
  }, 60_000);

  describe('nitro-host-in-the-middle', () => {
    const portOf = ({ url }: KmsProcess): number => Number(new URL(url).port);

    test('nitro-host-in-the-middle: a host that answers as another KMS gets no evidence and gives no keys', async () => {
      lab.webhook.seen.length = 0;
      const found = await run('middle', { divert: () => portOf(impostor) });
      refused(found, /has another root than \/app\/root_ca\.pem: .* It got no evidence/);
      expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
      expect((await tempCa(impostor)).tempCaCert).toContain('BEGIN CERTIFICATE');
    }, 60_000);

    test('one that shows the KMS first and then takes its place cannot prove that it is it', async () => {
      lab.webhook.seen.length = 0;
      // The root comes over the first connection, the nonce over the second, the keys over the third.
      const found = await run('late', {
        divert: (connection) => (connection < 2 ? undefined : portOf(impostor)),
      });
      refused(found, /cannot prove that it is the KMS|in its place/);
      expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
    }, 60_000);
  });

  test('a template that was not filled in is refused before anything is done', async () => {
    const folder = join(lab.directory, 'placeholder');
    mkdirSync(folder);
    const files = { 'app/entrypoint.sh': ENTRYPOINT, 'app/root_ca.pem': 'placeholder\n', 'app/sign.mjs': '' };
    const unfilled = await buildEnclaveImage(folder, { files, command: ['/bin/sh', '/app/entrypoint.sh'] });
    const found = await run('placeholder-run', { image: unfilled, nitro: simulatedModule(9, unfilled.pcrs) });
    expect(found.console).toMatch(/--kms-url is still the placeholder __KMS_URL__/);
    expect([found.exitCode, found.report]).toEqual([1, {}]);
    rmSync(folder, { recursive: true });
  }, 60_000);
});

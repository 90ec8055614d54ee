/** The key path of AWS Nitro, from an image to a signature with the application's key, by the command line on this host. */
import { createHash, createPublicKey, verify, X509Certificate } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  bootInfo,
  decodeAttestation,
  pcsCollateral,
  type TrustRoots,
  vendorRoots,
  verifyAttestation,
} from '@dstack-cloud/attestation';
import { addComposeHash, addOsImageHash, deployApp } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { getKey, issuedKeyMessage, recoverK256 } from '@dstack-cloud/keys';
import { parseRaTlsCertificate, verifyPeerAttestation } from '@dstack-cloud/ra-tls';
import { bundleText } from '@dstack-cloud/scripts/bundle';
import { createNitro } from '@dstack-cloud/tee-simulator';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { AgentSaid } from '../harness/ask-agent.ts';
import { callKms } from '../harness/call-kms.ts';
import {
  cloud,
  type EnclaveLab,
  type EnclaveProject,
  enclaveProject,
  hostFiles,
  type Network,
  otherModule,
  processesOf,
  startNetwork,
  watchProcesses,
} from '../harness/enclave-lab.ts';
import { chainPolicyConfig, type LabChain, startLabChain } from '../harness/kms-chain.ts';
import { type KmsHost, type KmsLab, startKmsLab, tempCa } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { repository } from '../harness/run-command.ts';
import { codeBlocks } from '../harness/shell-blocks.ts';

/** What the documented template has, filled in. */
const ENTRYPOINT = `#!/bin/sh
KMS_URL="__KMS_URL__"
APP_ID="__APP_ID__"
exec node /opt/dstack/dstack-enclave-init.js --kms-url "$KMS_URL" --app-id "$APP_ID" --root-ca /app/root_ca.pem --heartbeat -- node /app/sign.mjs
`;
/** The application: signs with its key, says what is public, and ends when it is told to. */
const APPLICATION = `
import { createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
const keys = JSON.parse(readFileSync(process.env.DSTACK_KEYS_FILE, 'utf8'));
const sec1 = Buffer.concat([Buffer.from('302e0201010420', 'hex'), Buffer.from(keys.k256_key, 'hex'), Buffer.from('a00706052b8104000a', 'hex')]);
const key = createPrivateKey({ key: sec1, format: 'der', type: 'sec1' });
const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
const signature = sign('sha256', Buffer.from('signed in the enclave'), key);
console.log('said ' + JSON.stringify({ spki: spki.toString('hex'), signature: signature.toString('hex'), issued: keys.k256_signature, proxy: process.env.HTTPS_PROXY }));
process.once('SIGTERM', () => {
  console.log('told to end');
  process.exit(0);
});
setInterval(() => undefined, 1000);
`;
const RAN_OUT = "console.log('nothing more to do');\nprocess.exitCode = 7;\n";
const TEST_MS = 180_000;

describeWithPrograms('AWS Nitro', ['unshare', 'chroot', 'busybox'], () => {
  let lab: KmsLab;
  let enclaves: EnclaveLab;
  let chain: LabChain;
  let kms: KmsProcess;
  let impostor: KmsProcess;
  let network: Network;
  let roots: TrustRoots;
  let appId: string;
  let registered: EnclaveProject;

  const seed = new Uint8Array(32).fill(9);
  beforeAll(async () => {
    lab = await startKmsLab();
    const nitro = createNitro(seed);
    enclaves = { directory: join(lab.directory, 'enclaves'), seedFile: join(lab.directory, 'nitro-seed') };
    mkdirSync(enclaves.directory, { mode: 0o700 });
    writeFileSync(enclaves.seedFile, seed, { mode: 0o600 });
    chain = await startLabChain(lab, 1);
    const nitroRoot = join(lab.directory, 'nitro-root.pem');
    writeFileSync(nitroRoot, nitro.rootPem);
    roots = { ...vendorRoots(), nitro: [{ name: 'simulated', der: nitro.rootDer, simulated: true }] };
    const attestation = { root_ca: { aws_nitro_enclave: nitroRoot }, require_nonce: true };
    const policy = chainPolicyConfig(chain, [chain.anvil.rpcUrl]);
    const host = await lab.host('nitro', { rpc: { workers: 1 }, core: { auth_api: policy, attestation } });
    await chain.registerKms(host);
    kms = await started(host);
    impostor = await started(await lab.host('impostor', { rpc: { workers: 1 }, core: { attestation } }));
    network = await startNetwork(portOf(kms));
    ({ appId } = await deployApp({ client: chain.client, kms: chain.kms, allowAnyDevice: true }));
    registered = await project('registered', APPLICATION);
    await register(registered);
  }, 400_000);
  afterAll(async () => {
    await network?.close();
    await chain?.stop();
    await lab?.stop();
  });

  const portOf = ({ url }: KmsProcess): number => Number(new URL(url).port);

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

  async function project(name: string, application: string): Promise<EnclaveProject> {
    const { ca_cert: root = '' } = JSON.parse((await callKms(kms.url, 'GetTempCaCert')).body) as Record<
      string,
      string
    >;
    const entrypoint = ENTRYPOINT.replace('__KMS_URL__', network.url).replace('__APP_ID__', appId);
    const app = { 'entrypoint.sh': entrypoint, 'sign.mjs': application, 'root_ca.pem': root };
    return await enclaveProject(enclaves, name, { app, appId, kmsUrl: network.url });
  }

  async function register(one: EnclaveProject): Promise<string> {
    const { stdout, stderr } = await one.run(['measure', '--json']);
    const { OS_IMAGE_HASH: hash } = JSON.parse(stdout || '{}') as { OS_IMAGE_HASH?: `0x${string}` };
    if (hash === undefined) throw new Error(stderr);
    await addOsImageHash(chain.client, chain.kms, hash);
    await addComposeHash(chain.client, appId as `0x${string}`, hash);
    return hash;
  }

  /** Deploys what must be refused; nothing of it is left running. */
  async function refused(one: EnclaveProject, sentence: RegExp, bin?: string): Promise<void> {
    const { code, stderr } = await one.run(['deploy'], bin);
    expect(stderr).toMatch(/ended with exit code 1 at stage keys/);
    expect([code, stderr]).toEqual([1, expect.stringMatching(sentence)]);
    expect(existsSync(join(one.machine(), 'guest/enclave'))).toBe(false);
    expect(processesOf(one.machine()).arguments).toEqual([]);
    expect((await one.run(['remove', '--yes'])).code).toBe(0);
  }

  test('nitro-key-path: an image is built, registered, deployed; it gets its keys over vsock, and signs', async () => {
    network.seen.length = 0;
    const watched = watchProcesses(enclaves.directory);
    const deployed = await registered.run(['deploy']);
    expect(deployed.code, deployed.stderr).toBe(0);
    expect(deployed.stderr).toContain('SIMULATED');
    const machine = registered.machine();
    const logs = (await registered.run(['logs', '-n', '1000'])).stdout;
    const [, text = '{}'] = /said (\{.*\})/.exec(logs) ?? [];
    const said = JSON.parse(text) as Record<string, string>;
    const spki = Buffer.from(said['spki'] ?? '', 'hex');
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

    const file = join(machine, 'guest/enclave/var/run/dstack/keys.json');
    expect((statSync(file).mode & 0o777).toString(8)).toBe('600');
    const keys = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
    // From the start of the deploy until now, the application's own processes included.
    const processes = watched();
    const seen = Buffer.concat([...network.seen, ...hostFiles(machine), ...processes]);
    for (const program of ['dstack-enclave-init', 'dstack-tee-simulator', 'dstack-vsock-proxy', 'unshare'])
      expect(
        processes.some((one) => one.includes(program)),
        program,
      ).toBe(true);
    expect(seen.length).toBeGreaterThan(4096);
    for (const name of ['k256_key', 'env_crypt_key', 'disk_crypt_key']) {
      const secret = Buffer.from(keys[name]!, 'hex');
      expect(secret.length).toBe(32);
      for (const form of [secret, secret.toString('hex'), secret.toString('base64')])
        expect(seen.includes(form), name).toBe(false);
    }

    const status = JSON.parse((await registered.run(['status', '--json'])).stdout) as {
      status: string;
      simulated: boolean;
      measurements: Record<string, string>;
      drift: string[];
    };
    expect(status).toMatchObject({ status: 'RUNNING', simulated: true, drift: [] });
    expect(status.measurements).toMatchObject({
      PCR0: expect.stringMatching(/^[0-9a-f]{96}$/),
      OS_IMAGE_HASH: expect.stringMatching(/^0x[0-9a-f]{64}$/),
    });
    const archive = join(registered.directory, 'image.tar');
    const { size } = statSync(archive);
    writeFileSync(archive, 'another', { flag: 'a' });
    expect((await registered.run(['status'])).stdout).toContain('! The project was changed since');
    truncateSync(archive, size);

    expect((await registered.run(['stop'])).stdout).toContain('Stopped');
    expect((await registered.run(['logs', '-n', '1000'])).stdout).toContain('told to end');
    expect(existsSync(join(machine, 'guest/enclave'))).toBe(false);
    expect(processesOf(machine).arguments).toEqual([]);
    const again = await registered.run(['start']);
    expect(again.code, again.stderr).toBe(0);
    // Whoever kills the supervisor gets no enclave that nobody knows.
    const { supervisor } = JSON.parse(readFileSync(join(machine, 'vm-state.json'), 'utf8')) as {
      supervisor: { pid: number };
    };
    process.kill(supervisor.pid, 'SIGKILL');
    await vi.waitFor(() => expect(processesOf(machine).arguments).toEqual([]), {
      timeout: 60_000,
      interval: 200,
    });
    expect((await registered.run(['status'])).stdout).toContain('FAILED');
    const third = await registered.run(['start']);
    expect(third.code, third.stderr).toBe(0);
    expect((await registered.run(['list'])).stdout).toMatch(/dstack-registered +RUNNING +simulated/);
    expect((await registered.run(['remove', '--yes'])).code).toBe(0);
    expect(existsSync(machine)).toBe(false);
    expect(processesOf(machine).arguments).toEqual([]);
  }, 300_000);

  test(
    'nitro-wrong-image: the same image with one word changed gets nothing',
    async () => {
      const other = await project('other', `${APPLICATION}\n// changed\n`);
      await refused(other, /The KMS refuses keys: this image is not registered/);
    },
    TEST_MS,
  );

  describe('an enclave of the registered image', () => {
    test(
      'nitro-debug-mode: with registers of zero it gets nothing, whatever is registered',
      async () => {
        const zero = `0x${'00'.repeat(32)}` as const;
        await addOsImageHash(chain.client, chain.kms, zero).catch(() => undefined);
        await addComposeHash(chain.client, appId as `0x${string}`, zero).catch(() => undefined);
        const bin = otherModule(
          join(lab.directory, 'debug'),
          "process.argv = [...process.argv.filter((word, i, all) => !/^--pcr/.test(word) && !/^--pcr/.test(all[i - 1] ?? '')), '--debug-enclave'];",
        );
        await refused(registered, /The KMS refuses keys: the enclave runs in debug mode/, bin);
      },
      TEST_MS,
    );

    test(
      'nitro-stale-document: a document that was held back gets nothing',
      async () => {
        const bin = otherModule(
          join(lab.directory, 'stale'),
          'const now = Date.now; Date.now = () => now() - 400_000;',
        );
        await refused(registered, /The KMS refuses keys: the attestation document is too old/, bin);
      },
      TEST_MS,
    );

    test(
      'nitro-host-in-the-middle: a host that answers as another KMS gets no evidence and gives no keys',
      async () => {
        lab.webhook.seen.length = 0;
        network.divert = () => portOf(impostor);
        await refused(registered, /has another root than \/app\/root_ca\.pem: .* It got no evidence/);
        expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
        expect((await tempCa(impostor)).tempCaCert).toContain('BEGIN CERTIFICATE');
      },
      TEST_MS,
    );

    test(
      'one that shows the KMS first and then takes its place cannot prove that it is it',
      async () => {
        lab.webhook.seen.length = 0;
        // The root comes over the first connection, the nonce over the second, the keys over the third.
        network.divert = (connection) => (connection < 2 ? undefined : portOf(impostor));
        await refused(registered, /cannot prove that it is the KMS|in its place/);
        expect(lab.webhook.seen.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
      },
      TEST_MS,
    );
  });

  test(
    'nitro-agent: SDKs get keys, certificates, evidence and signatures of the agent in the enclave',
    async () => {
      network.divert = undefined;
      network.seen.length = 0;
      const id = appId.slice(2).toLowerCase();
      const asking = await project('asking', await bundleText(repository, 'test/harness/ask-agent.ts'));
      const hash = await register(asking);
      const deployed = await asking.run(['deploy']);
      expect(deployed.code, deployed.stderr).toBe(0);
      const said = await vi.waitFor(
        async () => {
          const { stdout } = await asking.run(['logs', '-n', '1000']);
          expect(stdout).toContain('said all');
          return JSON.parse(
            [...stdout.matchAll(/part (.*)\.$/gm)].map(([, part]) => part).join(''),
          ) as AgentSaid;
        },
        { timeout: 60_000, interval: 500 },
      );
      expect(said).toMatchObject({ isSameKey: true, holdsKey: true, publishedInfo: id });
      expect(said.quote).toContain('GetQuote requires Intel TDX; use Attest');
      expect(said.event).toContain('switched off');
      const image = hash.slice(2);
      expect(said.info).toMatchObject({
        app_id: id,
        os_image_hash: image,
        compose_hash: image,
        tcb_info: { os_image_hash: image, rtmr3: null, pcr0: expect.stringMatching(/^[0-9a-f]{96}$/) },
      });
      // Evidence of the enclave, of its own choice of report data, under the simulated root.
      const options = {
        roots,
        collateral: pcsCollateral({ baseUrl: 'http://127.0.0.1:9' }),
        now: Math.floor(Date.now() / 1000),
      };
      const verified = await verifyAttestation(decodeAttestation(fromHex(said.attestation)), options);
      expect(Buffer.from(verified.reportData).toString('latin1')).toBe(`report${'\0'.repeat(58)}`);
      const boot = bootInfo(verified, { bootTime: false });
      expect([toHex(boot.appId), toHex(boot.osImageHash)]).toEqual([id, image]);
      expect(Buffer.from(said.document, 'base64').subarray(0, 1)).toEqual(Buffer.of(0x84));
      // The certificate comes from the KMS and carries evidence over its key.
      const chain = said.certificates.map((pem) => new X509Certificate(pem));
      const { ca_cert: root = '' } = JSON.parse((await callKms(kms.url, 'GetTempCaCert')).body) as {
        ca_cert?: string;
      };
      expect(chain[0]!.verify(chain[1]!.publicKey)).toBe(true);
      expect(chain[1]!.verify(new X509Certificate(root).publicKey)).toBe(true);
      expect(chain[0]!.subjectAltName).toBe('DNS:enclave.example');
      const peer = parseRaTlsCertificate(new Uint8Array(chain[0]!.raw));
      expect((await verifyPeerAttestation(peer, options)).mode).toBe('dstack-nitro-enclave');
      // No key of the agent is anywhere that the host sees.
      const machine = asking.machine();
      const keys = JSON.parse(
        readFileSync(join(machine, 'guest/enclave/var/run/dstack/keys.json'), 'utf8'),
      ) as Record<string, string>;
      const { key } = getKey(fromHex(keys['k256_key']!), 'wallet', 'test', 'secp256k1');
      expect(createHash('sha256').update(key).digest('hex')).toBe(said.keyHash);
      const processes = processesOf(machine);
      const seen = Buffer.concat([
        ...[...network.seen, ...hostFiles(machine)],
        ...[...processes.arguments, ...processes.environments],
      ]);
      for (const form of [Buffer.from(key), toHex(key)]) expect(seen.includes(form)).toBe(false);
      expect((await asking.run(['remove', '--yes'])).code).toBe(0);
    },
    TEST_MS,
  );

  test(
    'an application that ends ends its enclave, and its exit code is told',
    async () => {
      network.divert = undefined;
      const short = await project('short', RAN_OUT);
      await register(short);
      const { stderr } = await short.run(['deploy']);
      const { stdout } = await short.run(['status']);
      expect(`${stderr}${stdout}`).toContain('ended with exit code 7');
      expect((await short.run(['remove', '--yes'])).code).toBe(0);
    },
    TEST_MS,
  );

  test(
    'documented-nitro-project: the commands of docs/nitro.md, from a project to a measured image',
    async () => {
      network.divert = undefined;
      const [text = ''] = codeBlocks('docs/nitro.md', 'text').filter((one) =>
        one.includes('--fetch-root-ca'),
      );
      const folder = join(lab.directory, 'documented');
      mkdirSync(folder);
      let cwd = folder;
      for (const line of text.trim().split('\n')) {
        const [program, ...words] = line.split(' ');
        if (program === 'cd') {
          cwd = join(folder, words[0]!);
          // No engine builds here: the archive of another project is the container image.
          const app = JSON.parse(readFileSync(join(cwd, 'app.json'), 'utf8')) as Record<string, object>;
          app['nitro_config'] = {
            ...app['nitro_config'],
            ...{ host: 'local', kms_url: network.url, memory_mib: 4096, image: 'image.tar' },
          };
          writeFileSync(join(cwd, 'app.json'), JSON.stringify({ ...app, app_id: appId.slice(2) }));
          copyFileSync(join(registered.directory, 'image.tar'), join(cwd, 'image.tar'));
          continue;
        }
        expect(program).toBe('dstack-cloud');
        const { code, stdout, stderr } = await cloud(enclaves.directory, cwd, words);
        expect([code, stderr], line).toEqual([0, expect.any(String)]);
        if (words.includes('--local')) expect(stdout).toMatch(/^OS_IMAGE_HASH: 0x[0-9a-f]{64}$/m);
      }
      const root = JSON.parse((await callKms(kms.url, 'GetTempCaCert')).body) as { ca_cert: string };
      expect(readFileSync(join(cwd, 'app/root_ca.pem'), 'utf8').trim()).toBe(root.ca_cert.trim());
    },
    TEST_MS,
  );

  test(
    'nitro-placeholder: a root that is still the placeholder is refused before anything is built',
    async () => {
      const app = { 'entrypoint.sh': ENTRYPOINT, 'root_ca.pem': 'placeholder\n', 'sign.mjs': '' };
      const unfilled = await enclaveProject(enclaves, 'unfilled', { app, appId, kmsUrl: network.url });
      const { code, stderr } = await unfilled.run(['deploy']);
      expect([code, stderr]).toEqual([
        1,
        expect.stringContaining('holds no certificate: it is still the placeholder'),
      ]);
      expect(existsSync(join(unfilled.directory, 'output'))).toBe(false);
    },
    TEST_MS,
  );
});

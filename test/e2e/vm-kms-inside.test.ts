/**
 * The key service as an application of this product: our container image of it, in a virtual machine of our OS image, deployed
 * by the command line. Its chain and its collateral service are on this host; an application in a second machine gets
 * its keys from it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from '@dstack-cloud/scripts/build';
import { Cleanup } from '@dstack-cloud/scripts/demo/cleanup';
import {
  type Contracts,
  deployContracts,
  publishKms,
  registerKms,
} from '@dstack-cloud/scripts/demo/contracts';
import {
  bootstrapKms,
  finishKms,
  type Kms,
  type KmsIdentity,
  kmsAttestation,
  kmsListens,
  VM_DOMAIN,
} from '@dstack-cloud/scripts/demo/kms';
import { startChain } from '@dstack-cloud/scripts/demo/start-chain';
import { startPlatform } from '@dstack-cloud/scripts/demo/start-platform';
import { makeWorkspace, type Workspace, writeConfig } from '@dstack-cloud/scripts/demo/workspace';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { freePort, resolveProgram } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import { processesIn } from '../harness/run-command.ts';
import { codeBlocks } from '../harness/shell-blocks.ts';
import { BOOT_MS, type CommandLine, commandLine, editApp, projectState } from '../harness/vm/command-line.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';

/** One answer of the key service while it makes keys and evidence. */
const ANSWER_MS = 180_000;
vi.setConfig({ testTimeout: 2 * BOOT_MS, hookTimeout: BOOT_MS + 300_000 });

/** Port of the key service inside its machine, as the documentation has it. */
const KMS_PORT = 12_001;
const SECRET = 'what-only-the-application-may-read';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** Shows what its environment held, once it was decrypted by a key of the key service. A script, as that is up before Docker. */
const program = `
const shown = require("node:crypto").createHash("sha256").update(process.env.SECRET).digest("hex");
require("node:http").createServer((_, response) => response.end(shown)).listen(8080);
`;
const app = JSON.stringify({
  manifest_version: 2,
  name: 'app',
  runner: 'bash',
  bash_script: `exec /usr/lib/dstack/node -e '${program}'`,
  key_provider: 'kms',
  storage_fs: 'ext4',
  secure_time: false,
  allowed_envs: ['SECRET'],
});

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', ...missingForVm()];
describeWithPrograms('the key service in a virtual machine', needed, () => {
  const cleanup = new Cleanup();
  let space: Workspace;
  let cli: CommandLine;
  let contracts: Contracts;
  let kms: Kms;
  let identity: KmsIdentity;
  let missing: string | undefined;

  beforeAll(async () => {
    const image = await devImage();
    if ('missing' in image) {
      missing = image.missing;
      return;
    }
    const { directory } = await build();
    space = await makeWorkspace(cleanup, directory, false);
    const chain = await startChain(space, cleanup);
    contracts = await deployContracts(chain);
    const platform = await startPlatform(space, cleanup);
    const enclave = await startKeyProvider(space.seedFile, cleanup);
    const port = await freePort();
    kms = {
      onboardUrl: `http://127.0.0.1:${port}`,
      url: `https://127.0.0.1:${port}`,
      timeoutMs: ANSWER_MS,
    };
    const images = join(space.directory, 'images');
    mkdirSync(images);
    symlinkSync(image.folder, join(images, 'dstack'));
    cli = commandLine(await writeConfig(space, { chain, contracts, platform, kmsUrl: kms.url, images }));

    const output = join(space.directory, 'containers');
    const [container] = await cli.must<Container[]>(
      ['image', 'container', 'dstack-kms', '--output', output],
      space.projects,
    );
    const project = await newProject('kms', 'local');
    writeFileSync(join(project, 'kms.tar'), readFileSync(container!.archive));
    writeFileSync(
      join(project, 'docker-compose.yaml'),
      documentedCompose(container!.image_id, {
        rpcUrl: asGuestSees(chain.rpcUrl),
        contract: contracts.kms,
        chainId: chain.chainId,
        pccsUrl: asGuestSees(platform.pccsUrl),
        rootPem: platform.rootPem,
      }),
    );
    editApp(project, {
      key_provider_id: enclave,
      local_config: { images: ['kms.tar'], port, container_port: KMS_PORT, data_size: 2 },
    });
    await cli.must(['deploy'], project);
    await kmsListens(kms);
    await registerKms(contracts, await kmsAttestation(kms));
    identity = await bootstrapKms(kms, VM_DOMAIN);
    await publishKms(contracts, identity);
    await finishKms(kms);
  });
  afterAll(async () => {
    await cleanup.run();
    if (space !== undefined) expect(processesIn(space.directory)).toEqual([]);
  });

  async function newProject(name: string, keyProvider: string): Promise<string> {
    await cli.must(['new', name, '--key-provider', keyProvider, '--os-image', 'dstack'], space.projects);
    return join(space.projects, name);
  }
  async function meta(): Promise<Record<string, Record<string, string>>> {
    return JSON.parse((await callKms(kms.url, 'KMS.GetMeta')).body) as Record<string, Record<string, string>>;
  }

  test('vm-kms-inside: an application in another machine gets its keys, and verifies', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    expect((await meta())['bootstrap_info']).toMatchObject({ k256_pubkey: identity.k256Pubkey });
    const project = await newProject('app', 'kms');
    writeFileSync(join(project, 'exact.json'), app);
    writeFileSync(join(project, '.env'), `SECRET=${SECRET}\n`);
    editApp(project, { app_compose_file: 'exact.json', local_config: { data_size: 2 } });
    await cli.must(['deploy'], project);
    expect(await cli.page(project)).toBe(sha256(SECRET));
    const report = await cli.must(['verify'], project);
    expect(report).toMatchObject({ is_valid: true, simulated: true });
  });

  test('vm-kms-restart: after a power cut the key service has the same root keys', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const folder = projectState(join(space.projects, 'kms'))['machine_dir']!;
    const [qemu] = processesIn(folder).filter((line) => line.includes('qemu-system'));
    process.kill(Number(qemu?.split(' ')[0]), 'SIGKILL');
    const after = await until(meta);
    expect(after['bootstrap_info']).toMatchObject({ k256_pubkey: identity.k256Pubkey });
  });
});

interface Container {
  readonly archive: string;
  readonly image_id: string;
}

interface Surroundings {
  readonly rpcUrl: string;
  readonly contract: string;
  readonly chainId: number;
  readonly pccsUrl: string;
  readonly rootPem: string;
}

/** The compose file of docs/containers.md, with what an operator fills in. */
function documentedCompose(imageId: string, at: Surroundings): string {
  const [sample] = codeBlocks('docs/containers.md', 'yaml');
  const fill = (text: string, place: string, value: string): string => {
    expect(text).toContain(place);
    return text.replace(place, value);
  };
  const toml = `[rpc]
port = ${KMS_PORT}
workers = 1

[core]
cert_dir = "/var/lib/dstack/certs"

[core.onboard]
port = ${KMS_PORT}

[core.auth_api]
type = "chain"

[core.auth_api.chain]
rpc_urls = ["${at.rpcUrl}"]
kms_contract = "${at.contract}"
chain_id = ${at.chainId}

[core.attestation]
insecure_allow_external_trust_anchors = true

[core.attestation.urls]
pccs = "${at.pccsUrl}"

[core.attestation.root_ca]
tdx = "/etc/kms/simulated-root.pem"
`;
  const root = '      - source: root\n        target: /etc/kms/simulated-root.pem\n';
  const indented = (text: string): string => text.trimEnd().replaceAll('\n', '\n      ');
  const named = fill(sample!, 'dstack-kms@sha256:…', imageId);
  const targets = fill(
    named,
    '        target: /etc/kms/kms.toml\n',
    `        target: /etc/kms/kms.toml\n${root}`,
  );
  const content = `${indented(toml)}\n  root:\n    content: |\n      ${indented(at.rootPem)}`;
  return fill(targets, '…', content);
}

/** A service on this host's loopback, as machines behind QEMU's NAT find it. */
function asGuestSees(url: string): string {
  return url.replace('127.0.0.1', VM_DOMAIN);
}

/** The simulated enclave of key provider `local`; @returns its MRENCLAVE */
async function startKeyProvider(seedFile: string, cleanup: Cleanup): Promise<string> {
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  const options = ['--seed-file', seedFile, '--port', '3443', '--exit-with-stdin'];
  const child: ChildProcess = spawn(program, [...args, 'key-provider', ...options], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  cleanup.add(async () => {
    child.kill('SIGTERM');
    await ended;
  });
  const ready = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`The key provider ended with ${code}`)));
    createInterface({ input: child.stdout! }).once('line', resolve);
  });
  return (JSON.parse(ready) as { mr_enclave: string }).mr_enclave;
}

async function until<T>(look: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + BOOT_MS;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(1_000);
    }
  }
}

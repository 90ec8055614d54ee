/**
 * What app-compose.json says and the guest does not do is refused, naming the member: by the command line before
 * anything is touched, and by the guest itself, whatever its host hands over, before it measures anything or asks a key
 * service.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serializeSysConfig } from '@dstack-cloud/app';
import { build } from '@dstack-cloud/scripts/build';
import { createCvm, processIdentity, removeCvm, startCvm, stopCvm } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startPrepare } from '../harness/prepare-program.ts';
import { repository, runCommand } from '../harness/run-command.ts';

const IMAGE = 'dstack-sim-0.6.0';
const TOKEN_HASH = '28'.repeat(32);
const volume = { source: 'x', verity_root: '00'.repeat(32), target: '/x' };
const requirements = (wanted: object) => ({ manifest_version: '3', requirements: wanted });

/** The member that a refusal names, and what asks for it. */
const REFUSED: readonly (readonly [string, object])[] = [
  ['runner', { runner: 'nerdctl-compose' }],
  ['runner', { runner: 'Bash', bash_script: 'true' }],
  ['snapshotter', { snapshotter: 'stargz' }],
  ['bash_script', { bash_script: 'true' }],
  ['docker_compose_file', { runner: 'bash', bash_script: 'true' }],
  ['docker_compose_file', { docker_compose_file: '' }],
  ['features', { features: ['kms'] }],
  ['docker_config', { docker_config: { registry: 'r', username: 'u', token_key: 'T' } }],
  ['gateway_enabled', { gateway_enabled: true }],
  ['port_policy', { port_policy: { restrict_mode: true, ports: [] } }],
  ['swap_size', { swap_size: '1G' }],
  ['storage_fs', { storage_fs: 'btrfs' }],
  ['verity_volumes', { verity_volumes: [volume] }],
  ['manifest_version', { manifest_version: '4' }],
  ['requirements', { manifest_version: 2, requirements: {} }],
  ['requirements', requirements({ os_versions: '*' })],
  ['os_version', requirements({ os_version: '' })],
  ['os_version', requirements({ os_version: 'not a range' })],
  ['os_version', requirements({ os_version: '>=99' })],
  ['platforms', requirements({ platforms: [] })],
  ['platforms', requirements({ platforms: ['dstack-gcp-tdx'] })],
  ['launch_token_hash', requirements({ launch_token_hash: '' })],
  ['launch_token_hash', requirements({ launch_token_hash: TOKEN_HASH })],
  ['tdx_measure_acpi_tables', requirements({ tdx_measure_acpi_tables: true })],
  ['requirements.health_check', requirements({ health_check: true })],
  ['requirements.health_status_file', requirements({ health_status_file: '/dstack/health' })],
  ['gpu_policy.rego', requirements({ gpu_policy: { rego: 'package policy' } })],
];

/** One of the guest's own, one of requirements. */
const SAMPLE = REFUSED.filter(([member]) => member === 'port_policy' || member === 'platforms').slice(0, 2);

const base = {
  manifest_version: 2,
  name: 'measured',
  runner: 'docker-compose',
  docker_compose_file: 'services: {app: {command: sleep 600}}',
  secure_time: false,
  key_provider: 'kms',
};

describe('measured-or-refused', () => {
  let directory: string;
  let kms: Server;
  let asked = 0;
  let config: string;
  const kmsUrl = () => `https://127.0.0.1:${(kms.address() as { port: number }).port}`;

  beforeAll(async () => {
    const { directory: programs } = await build();
    process.env['DSTACK_BIN_DIR'] = programs;
    directory = mkdtempSync(join(tmpdir(), 'dstack-measured-'));
    kms = createServer((socket) => {
      asked++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => kms.listen(0, '127.0.0.1', resolve));
    config = join(directory, 'config.json');
    const local = { run_path: join(directory, 'vm'), seed_file: join(directory, 'seed'), engine: 'process' };
    writeFileSync(config, JSON.stringify({ services: { kms_urls: [kmsUrl()] }, local }), { mode: 0o600 });
  }, 120_000);
  afterAll(() => {
    kms?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** A guest that its host starts with these bytes, whatever any command line would say. */
  async function boot(compose: object): Promise<{ error: Error | undefined; dir: string }> {
    const dir = join(directory, 'guest');
    await createCvm({
      dir,
      name: 'measured',
      appId: '00'.repeat(20),
      image: IMAGE,
      shared: {
        'app-compose.json': Buffer.from(JSON.stringify(compose)),
        '.sys-config.json': serializeSysConfig({
          kmsUrls: [kmsUrl()],
          gatewayUrls: [],
          pccsUrl: undefined,
          dockerRegistry: undefined,
          hostApiUrl: undefined,
          vmConfig: '{}',
        }),
      },
      seedFile: join(directory, 'seed'),
      engine: 'process',
      owner: processIdentity(process.pid) ?? null,
    });
    const error = await startCvm(dir, { signal: AbortSignal.timeout(60_000) }).then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    return { error, dir };
  }
  const measured = (dir: string): string[] => {
    const log = join(dir, 'guest/run/log/dstack/runtime_events.log');
    const lines = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
    return lines.map((line) => (JSON.parse(line) as { event: string }).event);
  };

  test('measured-or-refused: a guest refuses each member that it does not do, before it measures or asks for keys', async () => {
    const before = asked;
    const guest = await startPrepare(directory);
    try {
      for (const [member, members] of REFUSED) {
        const { code, stderr } = await guest.prepare({ ...base, ...members }, kmsUrl());
        expect(code, stderr).toBe(1);
        expect(stderr).toMatch(new RegExp(`^Error: .*\\b${member}\\b`, 'm'));
      }
      expect(guest.measured()).toEqual([]);
      expect(asked).toBe(before);
      // The same machine with nothing to refuse goes on to its key service.
      expect((await guest.prepare(base, kmsUrl())).code).toBe(1);
      expect(guest.measured()).toContain('compose-hash');
      expect(asked).toBeGreaterThan(before);
    } finally {
      await guest.stop();
    }
  }, 180_000);

  test('measured-or-refused: the reason reaches whoever started the machine', async () => {
    const { error, dir } = await boot({ ...base, port_policy: { restrict_mode: true } });
    expect(error?.message).toContain('port_policy');
    expect(measured(dir)).toEqual([]);
    // It may still be ending.
    await stopCvm(dir);
    await removeCvm(dir);
  }, 60_000);

  test('measured-or-refused: the command line refuses first, by the same code, and touches nothing', async () => {
    const project = join(directory, 'project');
    mkdirSync(project);
    const cli = (...args: string[]) =>
      runCommand([join(repository, 'dist/bin/dstack-cloud'), '-C', project, ...args], {
        env: { DSTACK_CLOUD_CONFIG: config },
      });
    const seeds = { app_id: '11'.repeat(20), instance_id_seed: '22'.repeat(20) };
    const app = { platform: 'local', os_image: IMAGE, app_compose_file: 'exact.json', ...seeds };
    writeFileSync(join(project, 'app.json'), JSON.stringify(app));
    const before = asked;
    for (const [member, members] of SAMPLE) {
      writeFileSync(join(project, 'exact.json'), JSON.stringify({ ...base, ...members }));
      const { code, stderr } = await cli('deploy');
      expect(code, stderr).toBe(1);
      expect(stderr, member).toContain(member);
      expect(stderr).toContain('exact.json');
    }
    expect(asked).toBe(before);
    expect(existsSync(join(project, 'shared'))).toBe(false);
    expect(existsSync(join(directory, 'vm'))).toBe(false);
  }, 120_000);

  test('measured-or-refused: what is measured and done: init scripts, no instance id, requirements that hold', async () => {
    const { error, dir } = await boot({
      ...base,
      ...requirements({ platforms: ['dstack-tdx'] }),
      runner: 'bash',
      docker_compose_file: undefined,
      key_provider: 'none',
      no_instance_id: true,
      init_script: ['echo first >> order', 'echo second >> order'],
      pre_launch_script: 'echo third >> order; export FROM_SCRIPT=yes',
      bash_script: 'echo "fourth $FROM_SCRIPT" >> order; sleep 600',
      storage_fs: 'ext4',
    });
    try {
      expect(error).toBeUndefined();
      const order = join(dir, 'guest/dstack/order');
      await expect.poll(() => readFileSync(order, 'utf8')).toBe('first\nsecond\nthird\nfourth yes\n');
      const events = readFileSync(join(dir, 'guest/run/log/dstack/runtime_events.log'), 'utf8');
      expect(measured(dir).filter((event) => event === 'init-script-hash')).toHaveLength(2);
      expect(events).toContain('{"event":"instance-id","payload":""}');
    } finally {
      await stopCvm(dir);
      await removeCvm(dir);
    }
  }, 120_000);
});

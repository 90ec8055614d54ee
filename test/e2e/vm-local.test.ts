/**
 * Platform local with driver vm: our OS image under QEMU, with keys from a key service of this host. One machine serves all
 * tests, each of which also works alone.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeNodeImage } from '@dstack-cloud/scripts/demo/node-image';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { processesIn, repository, runCommand } from '../harness/run-command.ts';
import type { Stack } from '../harness/stack.ts';
import { BOOT_MS, type CommandLine, editApp, projectState } from '../harness/vm/command-line.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';
import { startVmStack } from '../harness/vm/vm-stack.ts';

vi.setConfig({ testTimeout: 2 * BOOT_MS, hookTimeout: BOOT_MS + 300_000 });

/** In no file, no argument and no log of the host may it be found. */
const SECRET = 'not-for-the-host-4f1d2b7c9e';

/** Counts its starts on a volume, and gives to the other service what the SDK says. */
const keeper = `
const fs = require('node:fs');
const { DstackClient } = require('@phala/dstack-sdk');
const client = new DstackClient();
const sha256 = (data) => require('node:crypto').createHash('sha256').update(data).digest('hex');
const starts = (fs.existsSync('/data/starts') ? fs.readFileSync('/data/starts', 'utf8') : '') + 'x';
// On the disk before anybody is told: a killed machine loses what only its memory has.
fs.writeFileSync('/data/starts', starts, { flush: true });
(async () => {
  const info = await client.info();
  const key = await client.getKey('wallet', 'signing');
  const quote = await client.getQuote('hello');
  const page = { starts: starts.length, app_id: info.app_id, instance_id: info.instance_id, compose_hash: info.compose_hash,
    key: Buffer.from(key.key).toString('hex'), chain: key.signature_chain.length, quote: quote.quote.length, secret: sha256(process.env.SECRET) };
  require('node:http').createServer((_, response) => response.end(JSON.stringify(page))).listen(3000);
  console.log('keeper is ready');
})();
`;
const web = `
const http = require('node:http');
http.createServer((_, response) => http.get('http://keeper:3000/', (page) => page.pipe(response))
  .on('error', (error) => { response.statusCode = 503; response.end(error.message); })).listen(8080);
`;
const command = (program: string): string => JSON.stringify(['node', '-e', program.replaceAll('$', '$$$$')]);
const compose = `services:
  keeper:
    image: dstack-test/node:1
    command: ${command(keeper)}
    environment:
      SECRET: "\${SECRET}"
    volumes: ["data:/data", "/var/run/dstack.sock:/var/run/dstack.sock"]
    restart: on-failure
    init: true
  web:
    image: dstack-test/node:1
    command: ${command(web)}
    ports: ["8080:8080"]
    restart: on-failure
    init: true
volumes: { data: {} }
`;

interface Page {
  readonly starts: number;
  readonly app_id: string;
  readonly instance_id: string;
  readonly key: string;
  readonly secret: string;
  readonly chain: number;
  readonly quote: number;
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', ...missingForVm()];
describeWithPrograms('local virtual machine', needed, () => {
  let stack: Stack | undefined;
  let cli: CommandLine;
  let project: string;
  let digest: string;
  let missing: string | undefined;

  beforeAll(async () => {
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    ({ stack, cli, digest } = await startVmStack(built.folder));
    await cli.must(['new', 'app'], stack.space.projects);
    project = join(stack.space.projects, 'app');
    writeFileSync(join(project, 'docker-compose.yaml'), compose);
    writeFileSync(join(project, '.env'), `SECRET=${SECRET}\n`);
    writeNodeImage(join(project, 'node.tar'), 'dstack-test/node:1');
    editApp(project, { os_image: 'first', local_config: { images: ['node.tar'], data_size: 3 } });
    await cli.must(['deploy'], project);
  });
  afterAll(async () => {
    await stack?.stop();
    if (stack !== undefined) expect(processesIn(stack.space.directory)).toEqual([]);
  });

  const page = async (): Promise<Page> => JSON.parse(await cli.page(project)) as Page;
  const machine = (): string => projectState(project)['machine_dir']!;
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

  test('vm-first-app: keys, a secret and a volume in containers of a machine that verifies', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const shown = await page();
    const state = projectState(project);
    expect(shown).toMatchObject({
      secret: sha256(SECRET),
      app_id: state['app_id'],
      instance_id: state['instance_id'],
    });
    expect(shown.chain).toBe(2);
    expect(shown.quote).toBeGreaterThan(1000);
    const report = await cli.must<{
      is_valid: boolean;
      simulated: boolean;
      verdict_text: string;
      links: { name: string; ok: boolean | null; why: string }[];
    }>(['verify'], project);
    expect(report).toMatchObject({ is_valid: true, simulated: true });
    expect(report.links).toContainEqual({
      name: 'OS image hash',
      ok: true,
      why: `That of the files in this project: ${digest}`,
    });
    const logs = await cli.must<{ lines: string[] }>(['logs', '--container', 'keeper'], project);
    expect(logs.lines).toContain('keeper is ready');
    const journal = await cli.must<{ lines: string[] }>(['logs', '--journal', '-n', '5000'], project);
    expect(journal.lines.join('\n')).toContain('Application runs: ');
    expect(journal.lines.join('\n')).toContain('dockerd');
    const told = await runCommand(
      [process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), '-C', project, 'status'],
      { env: { DSTACK_CLOUD_CONFIG: stack?.config ?? '' } },
    );
    expect(told.stdout).toMatch(/Acceleration: +(KVM|none, software emulation by TCG \(KVM: .+\))/);
    expect(told.stdout).toMatch(/CPU model: +(host \(.+\)|max,la57=off)/);
    expect(told.stdout).toContain(digest);
    expect(told.stdout).toContain('SIMULATED');
  });

  test('vm-no-secret-on-host: neither folder, console, arguments nor disks hold a key or a value', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const { key } = await page();
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    const found: string[] = [];
    const secrets = [Buffer.from(SECRET), Buffer.from(key), Buffer.from(key, 'hex')];
    const look = (name: string, bytes: Uint8Array): void => {
      const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (secrets.some((secret) => buffer.includes(secret))) found.push(name);
    };
    for (const path of filesBelow(machine())) for (const part of parts(path)) look(path, part);
    // The project's own .env is where the secret comes from; what was made of it is sealed.
    for (const path of filesBelow(join(project, 'shared'))) look(path, readFileSync(path));
    for (const line of processesIn(machine())) look('a command line', Buffer.from(line));
    expect(filesBelow(machine()).map((path) => path.slice(machine().length + 1))).toEqual(
      expect.arrayContaining(['data.img', 'shared.img', 'logs/serial.log', 'vm-state.json']),
    );
    expect(found).toEqual([]);
    // The data disk begins with a LUKS2 header and was written to.
    const head = parts(join(machine(), 'data.img')).next().value as Uint8Array;
    expect(Buffer.from(head.subarray(0, 6)).toString('latin1')).toBe('LUKS\xba\xbe');
    expect(statSync(join(machine(), 'data.img')).blocks * 512).toBeGreaterThan(32 * 1024 * 1024);
  });
});

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

const PART = 64 * 1024 * 1024;

/** A file in parts that overlap, so that nothing is missed between two of them. */
function* parts(path: string): Generator<Uint8Array> {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(PART + 256);
    for (let at = 0; ; at += PART) {
      const read = readSync(file, buffer, 0, buffer.length, at);
      yield buffer.subarray(0, read);
      if (read < buffer.length) return;
    }
  } finally {
    closeSync(file);
  }
}

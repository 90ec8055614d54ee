/** docs/local-vm.md up to the boot: the archive is the one that the new project names, and its service needs Node alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileRange, isNamedBy, parseImageReference, readImageArchive } from '@dstack-cloud/app/image-archive';
import { build } from '@dstack-cloud/scripts/build';
import { writeNodeImage } from '@dstack-cloud/scripts/demo/node-image';
import { publicKeyToAddress } from 'viem/utils';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

const bin = join(repository, 'dist/bin');
const nonce = 'c5'.repeat(32);
const children: ChildProcess[] = [];
let directory: string;
let shop: string;
beforeAll(async () => {
  await build();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
  shop = join(directory, 'shop');
}, 120_000);
afterAll(() => {
  for (const child of children) child.kill();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

/** Starts a program. @returns its first line that matches */
async function lineOf(
  [program, ...args]: [string, ...string[]],
  env: NodeJS.ProcessEnv,
  line: RegExp,
): Promise<RegExpExecArray> {
  const child = spawn(program, args, { cwd: directory, env, stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  for await (const text of createInterface({ input: child.stdout })) {
    const match = line.exec(text);
    if (match !== null) return match;
  }
  throw new Error(`${program} ended without the line ${line}`);
}

function composeFile() {
  return parse(readFileSync(join(shop, 'docker-compose.yaml'), 'utf8')) as {
    services: { web: { image: string; command: string[] } };
    configs: { web: { content: string } };
  };
}

test('documented-local-vm: the new project names the image that its archive has', async () => {
  writeNodeImage(join(directory, 'node.tar'), 'node:20-slim');
  const { id } = (await imagesOf(join(directory, 'node.tar')))[0]!;
  const { code, stdout, stderr } = await runCommand(
    ['bash', '-e', '-c', shellBlocks('docs/local-vm.md').join('\n')],
    {
      cwd: directory,
      env: { HOME: directory, IMAGE: `sha256:${id}`, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
      timeoutMs: 60_000,
    },
  );
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  expect(stderr).toContain('local_config.images');
  const app = JSON.parse(readFileSync(join(shop, 'app.json'), 'utf8')) as Record<string, object>;
  expect(app).toMatchObject({
    os_image: 'dstack-cloud-dev-0.1.0',
    local_config: { driver: 'vm', container_port: 8080, images: ['node.tar'] },
  });
  const reference = parseImageReference(composeFile().services.web.image);
  expect(reference).toMatchObject({ kind: 'id' });
  expect(isNamedBy((await imagesOf(join(shop, 'node.tar')))[0]!, reference!)).toBe(true);
}, 90_000);

async function imagesOf(path: string) {
  const handle = await open(path, 'r');
  try {
    return await readImageArchive(fileRange(handle));
  } finally {
    await handle.close();
  }
}

test('documented-local-vm: its service answers with nothing but Node, asking a guest agent', async () => {
  // Compose replaces $$ by $ (Compose Specification, "Interpolation").
  const text = composeFile().configs.web.content.replaceAll('$$', '$');
  const empty = join(directory, 'container');
  mkdirSync(empty);
  writeFileSync(join(empty, 'web.cjs'), text);
  expect([...text.matchAll(/require\('([^']+)'\)/g)].map(([, name]) => name)).toEqual([
    'node:http',
    'node:crypto',
  ]);
  const env = { PATH: process.env['PATH'] };
  await lineOf([join(bin, 'dstack-simulator'), 'sim', '--json'], env, /^\{/);
  const socket = join(directory, 'sim/dstack.sock');
  const [, port] = await lineOf(
    [process.execPath, join(empty, 'web.cjs')],
    { ...env, PORT: '0', DSTACK_SIMULATOR_ENDPOINT: socket },
    /^Listening on port (\d+)$/,
  );
  const url = `http://127.0.0.1:${port}/`;
  const answer = await fetch(`${url}?nonce=${nonce}`, { headers: { accept: 'application/json' } });
  expect(answer.status).toBe(200);
  const page = (await answer.json()) as Record<string, string>;
  expect(page['app_id']).toMatch(/^[0-9a-f]{40}$/);
  expect(page['quote']).toContain(nonce);
  expect(publicKeyToAddress(`0x${page['public_key']}`)).toMatch(/^0x[0-9a-fA-F]{40}$/);
  expect(await (await fetch(url)).text()).toContain(page['compose_hash']);
  expect((await fetch(`${url}?nonce=zz`)).status).toBe(400);
  expect((await fetch(`${url}other`)).status).toBe(404);
}, 60_000);

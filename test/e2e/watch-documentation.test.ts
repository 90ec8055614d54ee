/** The commands of docs/governance.md about watching, and the console, as programs. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Anvil, addOsImageHash, connectChain, deployKms, startAnvil } from '@dstack-cloud/contracts';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

let anvil: Anvil;
let directory: string;
let environment: Record<string, string>;
beforeAll(async () => {
  await build();
  anvil = await startAnvil();
  directory = mkdtempSync(join(tmpdir(), 'dstack-docs-'));
  environment = { PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`, HOME: directory };
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

test('documented-watch: history is read, what comes is told once, and the console answers', async () => {
  const client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[0]!.privateKey });
  const { kms } = await deployKms({ client });
  writeFileSync(
    join(directory, 'watch.toml'),
    `rpc_urls = ["${anvil.rpcUrl}"]\nkms_contract = "${kms}"\n[alerts]\nstale_seconds = 86400\n`,
  );
  const commands = shellBlocks('docs/governance.md').flatMap((block) =>
    block.split('\n').filter((line) => /^dstack-cloud gov watch /.test(line)),
  );
  expect(commands).toHaveLength(2);
  const run = async (command: string): Promise<string> => {
    const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', command], {
      cwd: directory,
      env: environment,
      timeoutMs: 120_000,
    });
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    return stdout;
  };
  expect(await run(commands[0]!)).toBe('');
  const image = `0x${'5'.repeat(64)}` as const;
  await addOsImageHash(client, kms, image);
  await run(commands[1]!);
  const [line, ...others] = readFileSync(join(directory, 'alerts.jsonl'), 'utf8').trim().split('\n');
  expect(JSON.parse(line!)).toMatchObject({
    ...{ rule: 'measurement-registered', text: `OS image ${image} is allowed now` },
  });
  expect(others.map((other) => JSON.parse(other) as object)).toEqual([
    { pass: { block: expect.any(Number), head: expect.any(Number), events: 2, messages: 1, waiting: 0 } },
  ]);

  const child = spawn(join(repository, 'dist/bin/dstack-cloud'), ['console', 'watch.toml', '--port', '0'], {
    cwd: directory,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const url = await new Promise<string>((resolve, reject) => {
      let text = '';
      child.once('exit', () => reject(new Error(`The console ended: ${text}`)));
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        const found = /Console at (\S+)/.exec(text)?.[1];
        if (found !== undefined) resolve(found);
      });
    });
    await expect
      .poll(async () => (await fetch(`${url}/api/list?name=images`)).text(), { timeout: 60_000 })
      .toContain(image);
  } finally {
    child.removeAllListeners('exit');
    child.kill('SIGTERM');
  }
}, 300_000);

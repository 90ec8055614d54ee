/** Commands that send are killed, really, at every point where they write or send; repeated, one transaction is made. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Anvil, buildContracts, connectChain, deployKms, startAnvil } from '@dstack-cloud/contracts';
import { build } from 'esbuild';
import { createPublicClient, http, type PublicClient } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Sandbox } from '../testing.ts';

/** Ends the process at a change of the record of what was sent, around the sending, or before the receipt. */
const KILLER = `
const files = require('node:fs/promises');
const { syncBuiltinESMExports } = require('node:module');
let count = 0;
let waited = false;
const step = () => {
  count += 1;
  if (count === Number(process.env.KILL_AT)) process.kill(process.pid, 'SIGKILL');
};
for (const name of ['open', 'rename', 'rm', 'unlink', 'writeFile']) {
  const change = files[name];
  files[name] = async (path, ...rest) => {
    const isRead = name === 'open' && (rest[0] === undefined || rest[0] === 'r' || typeof rest[0] === 'number' && (rest[0] & 3) === 0);
    if (String(path).includes('gov-sent') && !isRead) step();
    return await change(path, ...rest);
  };
}
syncBuiltinESMExports();
const real = globalThis.fetch;
globalThis.fetch = async (url, init) => {
  const asks = (method) => String(init?.body).includes(method);
  const isSending = asks('eth_sendRawTransaction');
  const isWaiting = !waited && asks('eth_getTransactionReceipt');
  waited ||= isWaiting;
  if (isSending || isWaiting) step();
  const answer = await real(url, init);
  if (isSending) step();
  return answer;
};
`;

const box = new Sandbox();
let anvil: Anvil;
let chain: PublicClient;
const sender = () => anvil.accounts[0]!.address;
const sent = (): Promise<number> => chain.getTransactionCount({ address: sender() });
const kept = (): { hash: string; time: number }[] =>
  JSON.parse(readFileSync(box.path('gov-sent.json'), 'utf8')).sent;

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  chain = createPublicClient({ transport: http(anvil.rpcUrl), cacheTime: 0 });
  const { rpcUrl, accounts } = anvil;
  const { privateKey } = accounts[0]!;
  const { kms } = await deployKms({
    client: await connectChain({ rpcUrl, privateKey, pollingIntervalMs: 10 }),
  });
  box.now = new Date();
  writeFileSync(box.path('key'), privateKey, { mode: 0o600 });
  mkdirSync(box.path('.config/dstack-cloud'), { recursive: true });
  writeFileSync(
    box.path('.config/dstack-cloud/config.json'),
    JSON.stringify({ chain: { rpc_url: rpcUrl, kms_contract: kms, private_key_file: box.path('key') } }),
  );
  writeFileSync(box.path('killer.cjs'), KILLER);
  await build({
    entryPoints: [fileURLToPath(new URL('../main.ts', import.meta.url))],
    outfile: box.path('cli.mjs'),
    ...{ bundle: true, platform: 'node', format: 'esm', logLevel: 'silent' },
    ...{ conditions: ['@dstack/source'], external: ['koffi'], mainFields: ['module', 'main'] },
    banner: {
      js: "import{createRequire as requireOf}from'node:module';const require=requireOf(import.meta.url);",
    },
  });
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  box.remove();
});

/** Whether it was killed; if not, it succeeded. */
function isKilled(at: number, words: readonly string[]): boolean {
  const args = ['--require', box.path('killer.cjs'), box.path('cli.mjs'), ...words];
  const env = { HOME: box.directory, PATH: process.env['PATH'], KILL_AT: String(at), NO_COLOR: '1' };
  const result = spawnSync(process.execPath, args, { cwd: box.directory, env, timeout: 60_000 });
  if (result.signal === 'SIGKILL') return true;
  expect(result.status, result.stderr.toString()).toBe(0);
  return false;
}

test.each([
  ['a task', (id: string) => ['kms', 'create-app', '--allow-any-device', '--hash', id]],
  ['an action of gov', (id: string) => ['gov', 'propose', 'kms:add-image', id, '--yes']],
])(
  '%s, killed at each point and repeated, makes one transaction',
  async (_, words) => {
    let kills = 0;
    for (;;) {
      const before = await sent();
      const command = words(`0x${(kills + 1).toString(16).padStart(64, '0')}`);
      if (!isKilled(kills + 1, command)) break;
      kills += 1;
      const { code, stderr } = await box.run(...command);
      expect(code, `point ${kills}: ${stderr}`).toBe(0);
      expect(await sent(), `point ${kills}`).toBe(before + 1);
      expect(kept()).toEqual([]);
    }
    expect(kills).toBeGreaterThan(6);
  },
  300_000,
);

/** What somebody meets who tries the commands for the first time: help, JSON, exit codes, wrong keys and arguments. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Anvil, buildContracts, startAnvil } from '@dstack-cloud/contracts';
import { taskSummaries } from '@dstack-cloud/contracts/task-summaries';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Outcome, Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 120_000 });

const HASH = `0x${'4'.repeat(64)}`;
const APP = `0x${'5'.repeat(40)}`;
const [DEPLOYER, A, B, STRANGER] = [0, 1, 2, 3] as const;
const box = new Sandbox();
let anvil: Anvil;
let silent: Server;
let silentUrl = '';
let kms = '';
let timelock = '';
const account = (index: number): string => anvil.accounts[index]!.address;

async function run(env: NodeJS.ProcessEnv, ...argv: string[]): Promise<Outcome> {
  box.env = { RPC_URL: anvil.rpcUrl, ...env };
  return await box.run(...argv);
}
const keyOf = (index: number): NodeJS.ProcessEnv => ({ PRIVATE_KEY: anvil.accounts[index]!.privateKey });
const onTest = ['--network', 'test', '--yes'];

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  box.now = new Date();
  silent = createServer(() => {});
  await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done));
  silentUrl = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const words = ['--model', 'B', '--proposer', account(A), '--delay', '3600'];
  const deployed = await run(keyOf(DEPLOYER), 'gov', 'deploy', ...words, ...onTest, '--json');
  expect(deployed.code, deployed.stderr).toBe(0);
  ({ kms, timelock } = JSON.parse(deployed.stdout));
}, 240_000);
afterAll(async () => {
  silent?.closeAllConnections();
  silent?.close();
  await anvil?.stop();
  box.remove();
});

describe('help', () => {
  const govCommands = [
    'deploy',
    'propose',
    'approve',
    'submit',
    'execute',
    'cancel',
    'reject',
    'status',
    'health',
  ];
  const commands = [
    ...[...govCommands, 'emergency-revoke', 'watch'].map((verb) => ['gov', verb]),
    ...[
      ['measurement', 'plan'],
      ['measurement', 'register'],
    ],
    ...Object.keys(taskSummaries).map((name) => name.split(':')),
  ];
  test.each(commands)(
    'dstack-cloud %s %s --help has examples, by the name that was typed',
    async (...words) => {
      const { code, stdout } = await run({}, ...words, '--help');
      expect(code).toBe(0);
      expect(stdout).toContain('Examples:');
      expect(stdout).toContain(`dstack-cloud ${words.join(' ')}`);
      expect(stdout).not.toMatch(/hardhat/);
    },
  );
});

describe('with --json, standard output is one JSON document, also of a failure', () => {
  test.each<[string, readonly string[], number]>([
    ['an unknown action', ['gov', 'propose', 'kms:add-imge', HASH], 2],
    ['a missing value', ['gov', 'propose', 'kms:add-image'], 2],
    ['a value too many', ['gov', 'propose', 'kms:upgrade', APP, APP], 2],
    ['a short hash', ['gov', 'propose', 'kms:add-image', '0x12'], 1],
    ['no argument at all', ['gov', 'propose'], 2],
    ['an unknown option', ['gov', 'status', '--nosuch'], 2],
    ['an unknown command', ['gov', 'nosuch'], 2],
    ['an unknown model', ['gov', 'deploy', '--model', 'Z', '--governance', 'other.json'], 2],
    ['nothing to revoke', ['gov', 'emergency-revoke', 'nosuch', HASH], 2],
    ['a proposal that is not there', ['gov', 'approve', 'nosuch.json'], 1],
    ['an operation that is not there', ['gov', 'execute', HASH], 1],
    ['a network that is not there', ['gov', 'status', '--network', 'nosuch'], 1],
    ['no number', ['gov', 'status', '--rpc-timeout', 'x'], 1],
    ['a task without its value', ['kms', 'add-image'], 2],
    ['a plan of nothing', ['measurement', 'plan'], 2],
  ])('%s', async (_, words, exitCode) => {
    const network = words.includes('--network') ? [] : ['--network', 'test'];
    const { code, stdout, stderr } = await run(keyOf(A), ...words, ...network, '--json', '--yes');
    expect(code, stdout + stderr).toBe(exitCode);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: expect.any(String), message: expect.any(String) },
    });
  });

  test('and of a success', async () => {
    for (const words of [
      ['gov', 'status'],
      ['gov', 'health'],
      ['info', 'owner'],
      ['info', 'kms'],
    ]) {
      const { stdout, stderr } = await run(
        { KMS_CONTRACT_ADDRESS: kms },
        ...words,
        '--network',
        'test',
        '--json',
      );
      expect(() => JSON.parse(stdout), stdout + stderr).not.toThrow();
    }
  });
});

describe('a mistake is explained', () => {
  test('a mistyped action names the one that was meant', async () => {
    const { code, stderr } = await run(keyOf(A), 'gov', 'propose', 'kms:add-imge', HASH, ...onTest);
    expect([code, stderr]).toEqual([2, expect.stringContaining('Did you mean kms:add-image?')]);
  });

  test('measurement plan outside a project names its own help', async () => {
    const { stderr } = await run({}, 'measurement', 'plan', ...onTest);
    expect(stderr).toContain('dstack-cloud measurement plan --help');
  });

  test('a task by somebody who is not the owner names the owner, and how it is asked', async () => {
    const env = { ...keyOf(STRANGER), KMS_CONTRACT_ADDRESS: kms };
    const { code, stderr } = await run(env, 'kms', 'add-image', HASH, ...onTest);
    expect(code).toBe(1);
    expect(stderr).toContain(`caller is not the owner (${account(STRANGER)})`);
    expect(stderr).toContain(`The owner is the Timelock ${timelock}, with a delay of 3600 s`);
    expect(stderr).toContain('dstack-cloud gov propose');
  });

  test('a dry run of a task says in words what it would do', async () => {
    const made = await run(keyOf(B), 'kms', 'deploy', '--with-app-impl', ...onTest, '--json');
    const env = { ...keyOf(B), KMS_CONTRACT_ADDRESS: JSON.parse(made.stdout).kms as string };
    const { stdout } = await run(env, 'kms', 'add-image', HASH, ...onTest, '--dry-run');
    expect(stdout).toContain(`Would allow an OS image: call addOsImageHash(${HASH})`);
    const stranger = await run({ ...env, ...keyOf(A) }, 'kms', 'add-image', HASH, ...onTest);
    expect(stranger.stderr).toContain(`The owner is the account ${account(B)}: use its key`);
  });

  test('gov deploy --dry-run shows the plan without a key', async () => {
    const words = ['--model', 'C', '--signer', account(A), '--signer', account(B), '--threshold', '2'];
    const plan = ['gov', 'deploy', ...words, '--delay', '3600', '--governance', 'new.json', ...onTest];
    const { code, stdout, stderr } = await run({}, ...plan, '--dry-run');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('A Safe 1.4.1 with 2 of 2 signers');
    expect(stdout).toContain('by the account whose key is given then');
    expect((await run({}, ...plan)).stderr).toContain('there is no account to sign with');
  });

  test('an account without funds is told so, and nothing is sent', async () => {
    const poor = `0x${'77'.repeat(32)}`;
    const words = ['gov', 'deploy', '--model', 'A', '--governance', 'poor.json', ...onTest];
    const { code, stderr } = await run({ PRIVATE_KEY: poor }, ...words);
    expect(code).toBe(1);
    expect(stderr).toMatch(/[Ii]nsufficient|exceeds the balance|funds/);
  });
});

describe('keys', () => {
  const propose = ['gov', 'propose', 'kms:add-image', HASH, ...onTest];

  test('a key file that is encrypted needs its password, and the right one', async () => {
    const { keystore, password } = await encrypted(anvil.accounts[A]!.privateKey);
    writeFileSync(box.path('key.json'), keystore, { mode: 0o600 });
    writeFileSync(box.path('password'), `${password}\n`, { mode: 0o600 });
    writeFileSync(box.path('wrong'), 'something else\n', { mode: 0o600 });
    const file = ['--key-file', box.path('key.json')];
    expect((await run({}, ...propose, ...file)).stderr).toContain('is encrypted: pass --password-file');
    const wrong = await run({}, ...propose, ...file, '--password-file', box.path('wrong'));
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringMatching(/password/)]);
    const right = await run({}, ...propose, ...file, '--password-file', box.path('password'), '--dry-run');
    expect(right.code, right.stderr).toBe(0);
  });

  test('a signing service that stalls does not hold the command for ever', async () => {
    const words = ['--signer-url', silentUrl, '--from', account(A), '--timeout', '4'];
    const { code, stderr } = await run({}, ...propose, ...words);
    expect([code, stderr]).toEqual([124, expect.stringContaining('longer than 4 seconds')]);
  });
});

test('colours only where somebody sees them', async () => {
  const health = (env: NodeJS.ProcessEnv, ...argv: string[]): Promise<Outcome> =>
    run(env, 'gov', 'health', ...onTest, ...argv);
  const colour = '\u001b[';
  expect((await health({})).stdout).not.toContain(colour);
  box.terminal = true;
  expect((await health({})).stdout).toContain(colour);
  expect((await health({ NO_COLOR: '1' })).stdout).not.toContain(colour);
  expect((await health({}, '--no-color')).stdout).not.toContain(colour);
  box.terminal = false;
});

test('health is critical where the key service demands a delay that the contracts have not', async () => {
  const plain = await run({}, 'gov', 'health', ...onTest);
  expect(plain.stdout).not.toContain('critical');
  const { code, stdout } = await run({}, 'gov', 'health', ...onTest, '--require-timelock', '86400');
  expect(code).toBe(2);
  expect(stdout).toContain('critical DstackKms');
  expect(stdout).toContain('the key service demands a policy delay of 1 day (require_timelock)');
});

test('files that are named lie in the folder of -C, where proposals are written', async () => {
  mkdirSync(box.path('elsewhere'));
  const calls = [{ to: kms, value: '0', data: `0x3e32d346${'7'.repeat(64)}` }];
  writeFileSync(box.path('elsewhere/batch.json'), JSON.stringify({ chainId: '31337', transactions: calls }));
  const words = ['gov', 'propose', 'batch', 'batch.json', '--kms', kms, ...onTest, '--dry-run'];
  const found = await run(keyOf(A), '-C', 'elsewhere', ...words);
  expect(found.code, found.stderr).toBe(0);
  for (const verb of ['approve', 'execute']) {
    const { stderr } = await run(
      keyOf(A),
      '-C',
      'elsewhere',
      'gov',
      verb,
      'nosuch.json',
      '--kms',
      kms,
      ...onTest,
    );
    expect(stderr).toMatch(/elsewhere\/nosuch\.json|No Safe governs/);
  }
});

/** A key file of version 3, with weak parameters. */
async function encrypted(privateKey: string): Promise<{ keystore: string; password: string }> {
  const { createCipheriv, pbkdf2Sync } = await import('node:crypto');
  const { keccak256 } = await import('viem');
  const password = 'correct horse';
  const [salt, iv] = [Buffer.alloc(32, 1), Buffer.alloc(16, 2)];
  const c = 10_000;
  const derived = pbkdf2Sync(password, salt, c, 32, 'sha256');
  const cipher = createCipheriv('aes-128-ctr', derived.subarray(0, 16), iv);
  const ciphertext = Buffer.concat([cipher.update(Buffer.from(privateKey.slice(2), 'hex')), cipher.final()]);
  const mac = keccak256(Buffer.concat([derived.subarray(16), ciphertext])).slice(2);
  const kdfparams = { dklen: 32, c, prf: 'hmac-sha256', salt: salt.toString('hex') };
  const crypto = {
    ...{ cipher: 'aes-128-ctr', cipherparams: { iv: iv.toString('hex') } },
    ...{ ciphertext: ciphertext.toString('hex'), kdf: 'pbkdf2', kdfparams, mac },
  };
  return { keystore: JSON.stringify({ version: 3, id: 'x', crypto }), password };
}

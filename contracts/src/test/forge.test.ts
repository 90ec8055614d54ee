/** The Solidity tests in `contracts/test`, run by forge: units, fuzz, invariants. Each is a test here too. */
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { startAnvil } from '../anvil.ts';
import { contractsDirectory } from '../artifact.ts';
import { foundryProgram } from '../foundry-program.ts';

const TIMEOUT_MS = 300_000;

type ForgeResult = { status: string; reason: string | null; counterexample: unknown };
type ForgeOutput = Record<string, { test_results: Record<string, ForgeResult> }>;

/** Output and messages of forge, also when tests failed. */
async function forge(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const options = { cwd: contractsDirectory, timeout: TIMEOUT_MS, maxBuffer: 1 << 28 };
  return await promisify(execFile)(foundryProgram('forge'), args, options).catch((error: unknown) => {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    if (stdout !== '') return { stdout, stderr };
    // Nothing ran.
    throw new Error(`forge ${args.join(' ')}: ${stderr}`, { cause: error });
  });
}

const output = JSON.parse((await forge('test', '--json')).stdout) as ForgeOutput;

describe.each(Object.entries(output))('%s', (_, { test_results }) => {
  test.each(Object.entries(test_results))('%s', (_name, { status, reason, counterexample }) => {
    expect({ status, reason, counterexample }).toMatchObject({ status: 'Success' });
  });
});

test('every file of Solidity tests ran', () => {
  const files = readdirSync(`${contractsDirectory}/test`).filter((name) => name.endsWith('.t.sol'));
  const ran = Object.keys(output).map((name) => name.replace(/^test\/|:.*$/g, ''));
  expect([...new Set(ran)].sort()).toEqual(files.sort());
});

test('lint finds nothing', async () => {
  const { stdout, stderr } = await forge('lint', 'contracts');
  expect(`${stdout}${stderr}`).not.toMatch(/^(warning|note|error)/m);
}, 60_000);

test('documented forge commands: build, and create on a chain', async () => {
  const anvil = await startAnvil();
  try {
    const built = await forge('build');
    expect(`${built.stdout}${built.stderr}`).toMatch(/Compiler run successful|No files changed/);
    const created = await forge(
      ...['create', 'contracts/DstackKms.sol:DstackKms', '--broadcast', '--rpc-url', anvil.rpcUrl],
      ...['--private-key', anvil.accounts[0]!.privateKey],
    );
    expect(created.stdout).toMatch(/Deployed to: 0x[0-9a-fA-F]{40}/);
  } finally {
    await anvil.stop();
  }
}, 300_000);

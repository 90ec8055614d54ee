/** `docs/governance.md` as operators would follow it: every command, in order. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Anvil, startAnvil } from '@dstack-cloud/contracts';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

let anvil: Anvil;
let directory: string | undefined;
beforeAll(async () => {
  await build();
  directory = mkdtempSync(join(tmpdir(), 'governance-'));
  anvil = await startAnvil({ cwd: directory });
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
});

describe('documentation of governance', () => {
  test('documented-governance: deploy, propose, approve, execute, revoke, cancel and replace a signer as written', async () => {
    const home = directory as string;
    mkdirSync(join(home, 'work'));
    // What the page says of watching is run by watch-documentation.
    const blocks = shellBlocks('docs/governance.md').filter(
      (block) => !block.startsWith('dstack-cloud gov watch'),
    );
    expect(blocks.length).toBeGreaterThan(4);
    // The page says to wait for the delay before its third block.
    const wait = `curl -s -H 'content-type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"evm_increaseTime","params":[7200]}' $RPC_URL >/dev/null
curl -s -H 'content-type: application/json' -d '{"jsonrpc":"2.0","id":1,"method":"evm_mine","params":[]}' $RPC_URL >/dev/null`;
    // Somebody else's app, which the page takes for granted.
    const app = `export KMS_CONTRACT_ADDRESS=$(node -p 'require("./governance.json").kms')
export APP_ID=$(PRIVATE_KEY=$DEPLOYER_KEY dstack-cloud kms create-app --allow-any-device --json --yes | node -p 'JSON.parse(require("fs").readFileSync(0)).appId')`;
    const before = (block: string): string[] =>
      block.startsWith('dstack-cloud gov execute')
        ? [wait]
        : block.startsWith('dstack-cloud measurement plan')
          ? [app]
          : [];
    const script = blocks.flatMap((block) => [...before(block), block]).join('\n');
    const [PCR0, PCR1, PCR2] = ['1', '2', '3'].map((digit) => digit.repeat(96));
    writeFileSync(join(home, 'work/enclave.json'), JSON.stringify({ Measurements: { PCR0, PCR1, PCR2 } }));
    const names = ['DEPLOYER', 'ALICE', 'BOB', 'CAROL', 'DAVE', 'GUARDIAN'];
    const people = names.flatMap((name, index) => [
      [name, anvil.accounts[index]!.address],
      [`${name}_KEY`, anvil.accounts[index]!.privateKey],
    ]);
    const { code, stdout, stderr } = await runCommand(['bash', '-e', '-o', 'pipefail', '-u', '-c', script], {
      cwd: join(home, 'work'),
      env: {
        ...Object.fromEntries(people),
        ...{ RPC_URL: anvil.rpcUrl, DELAY: '7200', OS_IMAGE_HASH: `0x${'4'.repeat(64)}`, HOME: home },
        PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
      },
      timeoutMs: 500_000,
    });
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout).toContain('Executed operation');
    expect(stdout).toContain('cancel operation');
    expect(stdout).toContain('replace signer');
    expect(stdout).toContain('has no policy delay of 86400 s');
    expect(stdout).toContain('"missing": 1');
  }, 600_000);
});

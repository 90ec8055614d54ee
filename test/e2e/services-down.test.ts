/** What a user sees when something that is needed is not there: which, and what to do. Exit code not 0, nothing half written. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';

let stack: Stack;
let directory: string;
let project: string;
let count = 0;

beforeAll(async () => {
  stack = await startStack();
  directory = mkdtempSync(join(tmpdir(), 'dstack-down-'));
}, 120_000);
afterAll(async () => {
  await stack?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
}, 60_000);
beforeEach(async () => {
  const name = `app${count++}`;
  const made = await cli(stack.config, 'new', name);
  expect(made.code, made.stderr).toBe(0);
  project = join(directory, name);
});

const cli = (config: string, ...args: string[]) =>
  runCommand([join(repository, 'dist/bin/dstack-cloud'), ...args], {
    cwd: directory,
    env: { DSTACK_CLOUD_CONFIG: config },
    timeoutMs: 90_000,
  });

type Config = {
  services: Record<string, unknown>;
  chain: Record<string, unknown>;
  local: Record<string, unknown>;
};

/** The stack's configuration with something changed. */
function changed(change: (config: Config) => void): string {
  const config = JSON.parse(readFileSync(stack.config, 'utf8')) as Config;
  change(config);
  const path = join(directory, `config-${count}.json`);
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}

/** A port on which nobody listens. */
async function deadPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const leavesNothingRunning = async () => {
  const status = await cli(stack.config, '--json', '-C', project, 'status');
  expect(status.stdout).not.toMatch(/"running"/i);
};

describe('services down', () => {
  test('kms-down: deploy says that the key service does not answer', async () => {
    const port = await deadPort();
    const config = changed(({ services }) => {
      services['kms_urls'] = [`https://127.0.0.1:${port}`];
    });
    writeFileSync(join(project, '.env'), 'A=b\n');
    const { code, stderr } = await cli(config, '-C', project, 'deploy');
    expect(code).toBe(1);
    expect(stderr).toContain(String(port));
    expect(existsSync(join(project, 'shared/.encrypted-env'))).toBe(false);
    await leavesNothingRunning();
  });

  test('chain-down: deploy says that the chain does not answer', async () => {
    const port = await deadPort();
    const config = changed(({ chain }) => {
      chain['rpc_url'] = `http://127.0.0.1:${port}`;
    });
    const { code, stderr } = await cli(config, '-C', project, 'deploy');
    expect(code).toBe(1);
    expect(stderr).toMatch(/chain|rpc/i);
    await leavesNothingRunning();
  });

  test('compose-no-yaml: deploy names the file and the place', async () => {
    writeFileSync(join(project, 'docker-compose.yaml'), 'services:\n  web: [unclosed\n  other: }\n');
    const { code, stderr } = await cli(stack.config, '-C', project, 'deploy');
    expect(code).toBe(1);
    expect(stderr).toContain('docker-compose.yaml');
    await leavesNothingRunning();
  });

  test('app-port-in-use: deploy names the port', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    try {
      const path = join(project, 'app.json');
      const app = JSON.parse(readFileSync(path, 'utf8')) as { local_config?: Record<string, unknown> };
      writeFileSync(path, JSON.stringify({ ...app, local_config: { ...app.local_config, port } }));
      const { code, stderr } = await cli(stack.config, '-C', project, 'deploy');
      expect(code).toBe(1);
      expect(stderr).toContain(String(port));
      await leavesNothingRunning();
    } finally {
      other.close();
    }
  });

  test('untrusted-env-signer: an environment is not encrypted to a KMS that the chain does not name', async () => {
    const { setKmsInfo, readKmsInfo } = await import('@dstack-cloud/contracts');
    const { client, kms } = stack.contracts;
    const info = await readKmsInfo(client, kms);
    await setKmsInfo(client, kms, { ...info, k256Pubkey: `0x02${'11'.repeat(32)}` });
    try {
      writeFileSync(join(project, '.env'), 'SECRET=x\n');
      const { code, stderr } = await cli(stack.config, '-C', project, 'deploy');
      expect(code).toBe(4);
      expect(stderr).toMatch(/sign/i);
      expect(existsSync(join(project, 'shared/.encrypted-env'))).toBe(false);
    } finally {
      await setKmsInfo(client, kms, info);
    }
  });

  test('wrong-simulator-root: verify without the test root refuses, and says which check', async () => {
    const deployed = await cli(stack.config, '-C', project, 'deploy');
    expect(deployed.code, deployed.stderr).toBe(0);
    const config = changed((all) => {
      delete (all as unknown as Record<string, unknown>)['attestation'];
    });
    const refused = await cli(config, '--json', '-C', project, 'verify');
    expect(refused.code).toBe(1);
    const report = JSON.parse(refused.stdout) as { is_valid: boolean };
    expect(report.is_valid).toBe(false);
    const accepted = await cli(stack.config, '--json', '-C', project, 'verify');
    expect(JSON.parse(accepted.stdout)).toMatchObject({ is_valid: true, simulated: true });
    expect((await cli(stack.config, '-C', project, '--yes', 'remove')).code).toBe(0);
  });
});

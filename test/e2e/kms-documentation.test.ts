/** `docs/kms.md` as an operator would follow it: every command, in order, and every sample configuration. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '@dstack-cloud/vmm';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { stringify } from 'smol-toml';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

const PAGE = 'docs/kms.md';
const programs = join(repository, 'dist/bin');

let lab: KmsLab;
beforeAll(async () => {
  lab = await startKmsLab();
}, 120_000);
afterAll(async () => lab?.stop());

describe('documentation of dstack-kms', () => {
  test('documented-kms-operation: run, register, bootstrap, replicate, back up, monitor and stop work as written', async () => {
    const [port, replicaPort, adminPort] = [await freePort(), await freePort(), await freePort()];
    const onPort = (number: number, name: string, more: object = {}) => ({
      rpc: { port: number },
      core: { cert_dir: name, onboard: { auto_bootstrap_domain: '', port: number }, ...more },
    });
    const admin = { admin: { enabled: true, port: adminPort, auth_token: 'token-of-the-test' } };
    const host = await lab.host('first', onPort(port, 'certs', admin));
    // ./kms.toml is read by both, as everywhere, so the second file must say no to what it does not want.
    const noAdmin = { admin: { enabled: false } };
    const replica = await lab.host('replica', onPort(replicaPort, 'replica-certs', noAdmin));
    const toml = (path: string) => stringify(JSON.parse(readFileSync(path, 'utf8')));
    writeFileSync(join(host.directory, 'kms.toml'), toml(join(host.directory, 'conf.json')));
    writeFileSync(join(host.directory, 'replica.toml'), toml(join(replica.directory, 'conf.json')));
    writeFileSync(join(host.directory, 'cli.json'), '{}', { mode: 0o600 });
    const people: Record<string, string> = {};
    for (const name of ['alice', 'bob']) {
      const secret = await generateIdentity();
      writeFileSync(join(host.directory, `${name}.key`), `${secret}\n`, { mode: 0o600 });
      people[name.toUpperCase()] = await identityToRecipient(secret);
    }
    const blocks = shellBlocks(PAGE);
    expect(blocks.length).toBeGreaterThan(10);
    const numbered = blocks.map((block, index) => `echo "== ${index}"\n${block}`).join('\n');
    // Whatever happens, the services that the page starts end with the shell.
    const script = `trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n${numbered}\n`;
    const { code, stdout, stderr } = await runCommand(['bash', '-e', '-o', 'pipefail', '-u', '-c', script], {
      cwd: host.directory,
      env: {
        ...people,
        KMS_HOST: `127.0.0.1:${port}`,
        KMS_DOMAIN: '127.0.0.1',
        REPLICA_HOST: `127.0.0.1:${replicaPort}`,
        ADMIN_URL: `http://127.0.0.1:${adminPort}`,
        ADMIN_TOKEN: 'token-of-the-test',
        DSTACK_AGENT_ADDRESS: `unix:${join(host.directory, 'agent.sock')}`,
        DSTACK_CLOUD_CONFIG: join(host.directory, 'cli.json'),
        PATH: `${programs}:${process.env['PATH'] ?? ''}`,
      },
      timeoutMs: 90_000,
    });
    const log = readFileSync(join(host.directory, 'kms.log'), 'utf8');
    const replicaLog = readFileSync(join(host.directory, 'replica.log'), 'utf8');
    expect(code, [stdout, stderr, log.slice(-3000), replicaLog.slice(-3000)].join('\n')).toBe(0);
    const bootstrapped = JSON.parse(readFileSync(join(host.directory, 'bootstrap.json'), 'utf8'));
    // First, replica, restored: one root.
    expect(stdout.split(bootstrapped.k256_pubkey).length - 1).toBeGreaterThanOrEqual(4);
    expect(stdout).toContain('UNAUTHORIZED');
    expect(stdout).toContain('No attestation provided');
    expect(stdout).toMatch(/"allowed": true/);
    expect(stdout).toContain('kms-share-alice.age');
    expect(stdout).toMatch(/^dstack_kms_simulated 1$/m);
    expect(log).toContain('"dstack-kms stopped"');
  }, 120_000);

  test('documented-kms-configuration: the sample configurations of the page are valid', async () => {
    const page = readFileSync(join(repository, PAGE), 'utf8');
    const samples = [...page.matchAll(/^```toml\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text);
    expect(samples.length).toBeGreaterThan(1);
    for (const [index, sample] of samples.entries()) {
      const file = join(lab.directory, `sample-${index}.toml`);
      writeFileSync(file, sample);
      const argv = [join(programs, 'dstack-kms'), '--config', file, 'check-config'];
      const { code, stderr } = await runCommand(argv, { cwd: lab.directory });
      expect(code, stderr).toBe(0);
      expect(stderr).not.toContain('warning');
    }
  });
});

/** The log of decisions: who reads it believes the chain, not the key service. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { AuditLog } from '@dstack-cloud/audit-log';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { identityOf, registeredWorkload, type Stack, startStack } from '../harness/stack.ts';

let stack: Stack;
let directory: string;
beforeAll(async () => {
  stack = await startStack();
  directory = mkdtempSync(join(tmpdir(), 'dstack-audit-e2e-'));
}, 120_000);
afterAll(async () => {
  await stack?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
}, 60_000);

const verify = (...args: string[]) =>
  runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', 'kms', 'audit', 'verify', ...args], {
    env: { DSTACK_CLOUD_CONFIG: stack.config },
  });
/** The log in the machine of the key service. */
const auditDirectory = (): string => {
  const root = dirname(stack.config);
  const found = readdirSync(root, { recursive: true, encoding: 'utf8' }).find((path) =>
    path.endsWith('audit.hashes'),
  );
  return dirname(join(root, found ?? 'none'));
};
const release = async (name: string) => {
  const identity = await identityOf(stack, await registeredWorkload(stack, name));
  expect((await callKms(stack.kms.url, 'GetAppKey', { api_version: 1 }, identity)).status).toBe(200);
};

describe('audit', () => {
  test('audit-grows: every release adds a record, and the log is proved to continue what was seen', async () => {
    const before = await verify();
    expect(before.code, before.stderr).toBe(0);
    const first = JSON.parse(before.stdout);
    await release('audit 1');
    await release('audit 2');
    const after = await verify();
    expect(after.code, after.stderr).toBe(0);
    const second = JSON.parse(after.stdout);
    expect(second.head.size).toBe(first.head.size + 2);
    expect(second.continues).toEqual(first.head);
  });

  test('audit-rewritten: a log that does not continue the head seen before is refused', async () => {
    expect((await verify()).code).toBe(0);
    await release('audit 3');
    const path = join(dirname(stack.config), 'audit-heads.json');
    const kept = readFileSync(path, 'utf8');
    // What a verifier would hold who had been shown another past: a head with another root cannot be signed, so
    // it is refused before any proof is asked for.
    writeFileSync(
      path,
      kept.replace(/"root": "../, (text) => (text.endsWith('00') ? '"root": "01' : '"root": "00')),
    );
    const refused = await verify();
    expect(refused.code).toBe(1);
    writeFileSync(path, kept);
    expect((await verify()).code).toBe(0);
  });

  test('audit-copy: a copy must be of this log, also for who never saw a head of it; an older one is its beginning', async () => {
    const copy = join(directory, 'copy');
    cpSync(auditDirectory(), copy, { recursive: true });
    await release('audit 4');
    // Nobody remembers anything here.
    const stranger = async (log: string) => {
      const config = join(mkdtempSync(join(directory, 'stranger-')), 'config.json');
      cpSync(stack.config, config);
      const args = ['--json', 'kms', 'audit', 'verify', '--log', log];
      const env = { DSTACK_CLOUD_CONFIG: config };
      return await runCommand([join(repository, 'dist/bin/dstack-cloud'), ...args], { env });
    };
    const live = await stranger(auditDirectory());
    expect(live.code, live.stderr).toBe(0);
    expect(JSON.parse(live.stdout).copy.missing).toBe(0);
    const older = await stranger(copy);
    expect(older.code, older.stderr).toBe(0);
    expect(JSON.parse(older.stdout).copy.missing).toBe(1);

    const { records } = JSON.parse(live.stdout).copy;
    for (const count of [records - 1, records, records + 1]) {
      const forged = mkdtempSync(join(directory, 'forged-'));
      const log = await AuditLog.open({ directory: forged, key: new Uint8Array(32).fill(7) });
      for (let index = 0; index < count; index++) await log.append({ event: 'app-key', decision: 'denied' });
      await log.close();
      const refused = await stranger(forged);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain('does not hold together');
    }
    for (const nothing of [mkdtempSync(join(directory, 'empty-')), join(directory, 'nowhere')]) {
      expect((await stranger(nothing)).code).toBe(1);
    }
    const beyond = await verify('--record', '999999', '--hash', '00'.repeat(32));
    expect(beyond.code).toBe(1);
    expect(beyond.stderr).toContain('Record 999999 is not in the log');
  });

  test('audit-other-root: a key service whose root is not on chain is refused', async () => {
    const config = JSON.parse(readFileSync(stack.config, 'utf8')) as Record<string, unknown>;
    delete config['chain'];
    const path = join(directory, 'config.json');
    writeFileSync(path, JSON.stringify(config));
    const refused = await runCommand(
      [
        join(repository, 'dist/bin/dstack-cloud'),
        'kms',
        'audit',
        'verify',
        '--trust-signer',
        `02${'11'.repeat(32)}`,
      ],
      { env: { DSTACK_CLOUD_CONFIG: path } },
    );
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(/not certified/);
  });
});

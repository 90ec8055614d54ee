/** The commands of docs/sealing.md: what they sign lets a software TPM give its seed to another system. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeHash, defaultAppId, instanceId } from '@dstack-cloud/app';
import { identityEvents, runtimeEventDigest } from '@dstack-cloud/attestation';
import { extendPcr, openSealedSeed, parseSealApproval, withTpm } from '@dstack-cloud/attestation/attester';
import { fromHex, utf8 } from '@dstack-cloud/encoding';
import { build } from '@dstack-cloud/scripts/build';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

const SEED = '22'.repeat(20);

describeWithPrograms('sealing', ['swtpm', 'swtpm_setup', 'openssl'], () => {
  let directory: string;
  let software: SoftwareTpm;
  beforeAll(async () => {
    await build();
    directory = mkdtempSync(join(tmpdir(), 'seal-docs-'));
    software = await startSwtpm();
  }, 600_000);
  afterAll(async () => {
    await software?.stop();
    if (directory) rmSync(directory, { recursive: true, force: true });
  });

  const shell = async (script: string): Promise<string> => {
    const { code, stdout, stderr } = await runCommand(['bash', '-e', '-c', script], {
      cwd: directory,
      env: {
        PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
        XDG_CONFIG_HOME: directory,
        HOME: directory,
      },
      timeoutMs: 240_000,
    });
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    return stdout;
  };

  test('documented-sealing: a key is made, and what it approves gets the seed', {
    timeout: 600_000,
  }, async () => {
    const [makeKey, approve, ...others] = shellBlocks('docs/sealing.md');
    expect(others).toEqual([]);
    const key = /seal_approval_key: ([0-9a-f]+)/.exec(await shell(makeKey!))?.[1] ?? '';
    const approver = fromHex(key);
    const compose = (name: string) =>
      JSON.stringify({
        ...{ manifest_version: 2, name, runner: 'bash', bash_script: 'true' },
        ...{ key_provider: 'tpm', seal_approval_key: key },
      });
    /** Boots a machine with this application, and asks its TPM. */
    const boot = async (name: string, approval?: Uint8Array) => {
      await software.restart();
      return await withTpm(software.location, async (tpm) => {
        await extendPcr(tpm, 4, { sha256: new Uint8Array(createHash('sha256').update(name).digest()) });
        const hash = composeHash(utf8(compose(name)));
        const appId = defaultAppId(hash);
        const ids = { appId, composeHash: hash, initScriptHashes: [] };
        for (const event of identityEvents({ ...ids, instanceId: instanceId(fromHex(SEED), appId) }))
          await extendPcr(tpm, 14, { sha256: runtimeEventDigest(event, 'sha256') });
        return await openSealedSeed(tpm, {
          approver,
          ...(approval && { approval: parseSealApproval(approval) }),
        });
      });
    };
    const { seed } = await boot('first');
    const refusal = await boot('second').then(
      () => '',
      (error: Error) => error.message,
    );
    writeFileSync(join(directory, 'serial.log'), `${refusal}\n`);
    writeFileSync(join(directory, 'app-compose.json'), compose('second'));
    writeFileSync(join(directory, '.instance_info'), JSON.stringify({ instance_id_seed: SEED }));
    expect(await shell(approve!)).toContain('PCR 14, application (changed)');
    const approval = readFileSync(join(directory, '.seal-approval.json'));
    expect(await boot('second', approval)).toMatchObject({ how: 'resealed', seed });
  });
});

/** The commands of docs/sealing.md: what they sign lets a software TPM give its seed to another system. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeHash, defaultAppId, instanceId } from '@dstack-cloud/app';
import {
  identityEvents,
  predictUki,
  readUki,
  runtimeEventDigest,
  webCrypto,
} from '@dstack-cloud/attestation';
import { extendPcr, openSealedSeed, parseSealApproval, withTpm } from '@dstack-cloud/attestation/attester';
import { fromHex, utf8 } from '@dstack-cloud/encoding';
import { writeUki } from '@dstack-cloud/os-image';
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
    const booted = writeImage(join(directory, '.local/share/dstack-cloud/images/dstack-cloud-0.1.0'));
    const compose = (name: string) =>
      JSON.stringify({
        ...{ manifest_version: 2, name, runner: 'bash', bash_script: 'true' },
        ...{ key_provider: 'tpm', seal_approval_key: key },
      });
    /** Boots a machine with this application, and asks its TPM. */
    const boot = async (name: string, approval?: Uint8Array) => {
      await software.restart();
      return await withTpm(software.location, async (tpm) => {
        for (const digest of booted) await extendPcr(tpm, 4, { sha256: digest });
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

/** An image as far as its registers go: neither stub nor kernel would run. @returns what booting it measures into PCR 4 */
function writeImage(folder: string): readonly Uint8Array[] {
  const program = new Uint8Array(4096 + 0x71);
  program.set(utf8('DSTKSTUB'), 4096);
  const parts = { stub: { program, dataStart: 4096, entry: 0x10 }, osRelease: new Uint8Array(9) };
  const more = { commandLine: 'console=ttyS0', initrd: new Uint8Array(100) };
  const kernel = writeUki({ ...parts, ...more, kernel: new Uint8Array(9000) });
  const uki = writeUki({ ...parts, ...more, kernel });
  const metadata = { kernel: 'bzImage', initrd: 'initrd', cmdline: more.commandLine, version: '0.1.0' };
  mkdirSync(folder, { recursive: true });
  for (const name of ['bzImage', 'initrd', 'sha256sum.txt']) writeFileSync(join(folder, name), '');
  writeFileSync(join(folder, 'metadata.json'), JSON.stringify(metadata));
  writeFileSync(join(folder, 'uki.efi'), uki);
  return predictUki(readUki(uki), { gptDigest: new Uint8Array(32), measuredSections: [] }, webCrypto).pcr4;
}

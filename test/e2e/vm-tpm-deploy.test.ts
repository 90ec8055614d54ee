/** A project whose keys are in the TPM of its virtual machine, from the first `deploy` to one that its owner approved. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { processesIn, runCommand } from '../harness/run-command.ts';
import type { Stack } from '../harness/stack.ts';
import { BOOT_MS, type CommandLine, projectState } from '../harness/vm/command-line.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';
import { type ScriptPage, useScriptApp } from '../harness/vm/script-app.ts';
import { startVmStack } from '../harness/vm/vm-stack.ts';

// Three boots by firmware.
vi.setConfig({ testTimeout: 3 * BOOT_MS, hookTimeout: 300_000 });

const needed = [
  ...['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'swtpm', 'swtpm_setup', 'openssl'],
  ...missingForVm(),
];
describeWithPrograms('a project with keys in a TPM', needed, () => {
  let stack: Stack | undefined;
  let cli: CommandLine;
  let project: string;
  let missing: string | undefined;

  beforeAll(async () => {
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    ({ stack, cli } = await startVmStack(built.folder));
    await cli.must(['new', 'app', '--os-image', 'first', '--key-provider', 'tpm'], stack.space.projects);
    project = join(stack.space.projects, 'app');
  });
  afterAll(async () => {
    await stack?.stop();
    if (stack !== undefined) expect(processesIn(stack.space.directory)).toEqual([]);
  });

  const page = async (): Promise<ScriptPage> => JSON.parse(await cli.page(project)) as ScriptPage;

  test('vm-tpm-deploy: the first deploy seals; a change is refused with the reason until its owner approves it', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const owner = join(project, 'owner.pem');
    const command = ['openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', owner];
    await runCommand(command);
    await runCommand(['chmod', '600', owner]);
    const { seal_approval_key } = await cli.must(['seal', 'key', '--key-file', owner], project);
    const revision = (name: string): void =>
      useScriptApp(project, { name, key_provider: 'tpm', seal_approval_key });

    revision('first');
    await cli.must(['deploy'], project);
    const first = await page();
    expect(first).toMatchObject({ starts: 1, key: expect.stringMatching(/^[0-9a-f]{64}$/) });
    const { compose_hash: firstHash } = projectState(project);

    // A machine that is off stays off when its update fails: a boot less.
    await cli.must(['stop'], project);
    revision('second');
    const refused = await cli.run(['deploy'], project);
    const { error } = JSON.parse(refused.stdout) as {
      error: { code: string; message: string; hint: string };
    };
    expect(error).toMatchObject({
      code: 'boot_failed',
      message: expect.stringMatching(/PCR 14 \(application\) was .* approval 2 of policy [0-9a-f]{64}/s),
      hint: expect.stringContaining('dstack-cloud seal approve'),
    });
    expect(projectState(project)).toMatchObject({ compose_hash: firstHash, status: 'STOPPED' });

    // As the hint says.
    writeFileSync(join(project, 'refusal.txt'), error.message);
    const files = ['--compose', 'shared/app-compose.json', '--instance', 'shared/.instance_info'];
    const approve = ['seal', 'approve', 'refusal.txt', '--key-file', 'owner.pem', '--yes', ...files];
    await cli.must([...approve, '--image', 'first', '--accept', '0,2'], project);
    await cli.must(['deploy'], project);
    expect(await page()).toEqual({ ...first, starts: 2 });
    expect(projectState(project)['compose_hash']).not.toBe(firstHash);
    const { lines } = await cli.must<{ lines: string[] }>(['logs', '-n', '1000'], project);
    expect(lines.join('\n')).toContain('"how":"resealed","seal":2');
  });
});

/**
 * What outlives a boot of a machine that the command line made: data and identity, over an orderly stop, a killed QEMU and
 * another OS image. The application is a script, which is up before Docker is.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { addOsImageHash } from '@dstack-cloud/contracts';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { processesIn } from '../harness/run-command.ts';
import type { Stack } from '../harness/stack.ts';
import { BOOT_MS, type CommandLine, editApp, projectState } from '../harness/vm/command-line.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';
import { type ScriptPage, useScriptApp } from '../harness/vm/script-app.ts';
import { variantImage } from '../harness/vm/variant-image.ts';
import { startVmStack } from '../harness/vm/vm-stack.ts';

vi.setConfig({ testTimeout: 2 * BOOT_MS, hookTimeout: BOOT_MS + 300_000 });

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', ...missingForVm()];
describeWithPrograms('the data of a local virtual machine', needed, () => {
  let stack: Stack | undefined;
  let cli: CommandLine;
  let project: string;
  let images: string;
  let missing: string | undefined;

  beforeAll(async () => {
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    ({ stack, cli, images } = await startVmStack(built.folder));
    await cli.must(['new', 'app', '--os-image', 'first'], stack.space.projects);
    project = join(stack.space.projects, 'app');
    useScriptApp(project, { key_provider: 'kms' });
    await cli.must(['deploy'], project);
  });
  afterAll(async () => {
    await stack?.stop();
    if (stack !== undefined) expect(processesIn(stack.space.directory)).toEqual([]);
  });

  const page = async (): Promise<ScriptPage> => JSON.parse(await cli.page(project)) as ScriptPage;
  const status = async (): Promise<string> =>
    (await cli.must<{ status: string }>(['status'], project)).status;
  const machine = (): string => projectState(project)['machine_dir']!;

  test('vm-disk-survives: stop, start and a killed QEMU keep data and identity', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const first = await page();
    expect(first).toMatchObject({
      key: expect.stringMatching(/^[0-9a-f]{64}$/),
      instance_id: projectState(project)['instance_id'],
    });
    await cli.must(['stop'], project);
    expect(await status()).toBe('STOPPED');
    expect(processesIn(machine())).toEqual([]);
    await cli.must(['start'], project);
    const second = await page();
    expect(second).toEqual({ ...first, starts: first.starts + 1 });
    const [qemu] = processesIn(machine()).filter((line) => line.includes('qemu-system'));
    process.kill(Number(qemu?.split(' ')[0]), 'SIGKILL');
    const deadline = Date.now() + BOOT_MS;
    for (let third = second; ; third = await page()) {
      if (third.starts > second.starts) {
        expect(third).toEqual({ ...second, starts: second.starts + 1 });
        break;
      }
      expect(Date.now()).toBeLessThan(deadline);
      await sleep(1_000);
    }
  });

  test('vm-update-image: another image keeps the data, and its hash is what verifies then', async (context) => {
    if (missing !== undefined || stack === undefined) return context.skip(missing);
    const before = await page();
    const next = variantImage(join(images, 'first'), join(images, 'second'), 'dstack.test=1');
    editApp(project, { os_image: 'second' });
    const refused = await cli.run(['deploy'], project);
    expect(refused.stdout).toMatch(/OS image/);
    expect(await status()).toBe('RUNNING');
    await addOsImageHash(stack.contracts.client, stack.contracts.kms, `0x${next}`);
    await cli.must(['deploy'], project);
    expect(await page()).toEqual({ ...before, starts: before.starts + 1 });
    const report = await cli.must(['verify'], project);
    expect(report).toMatchObject({ is_valid: true, identity: { os_image_hash: next } });
  });
});

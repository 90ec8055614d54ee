/** A machine whose manifest cannot be read may have anything: nothing counts as free because it does not say that it has it. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withLock } from '@dstack-cloud/files';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SUPERVISOR_LOCK } from '../../state/supervisor-of.ts';
import { serviceIn, stoppedMachine } from '../test/service-in.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import type { Machines } from './machines.ts';

let root: string;
let service: Machines;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-unknown-'));
  for (const name of ['tiny-sleeps', 'other']) writeTinyImage(join(root, 'image'), name, 'sleeps');
  service = serviceIn(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const folder = (id: string): string => join(root, 'vm', id);
const manifestOf = (id: string): string => join(folder(id), 'vm-manifest.json');
/** As a supervisor would hold it. */
const whileRunning = async (id: string, body: () => Promise<void>): Promise<void> =>
  await withLock(folder(id), SUPERVISOR_LOCK, { waitMs: 0, what: 'the machine' }, body);

describeWithPrograms('a machine with a damaged manifest', ['qemu-system-x86_64'], () => {
  it.each([
    ['is no JSON', (path: string) => writeFileSync(path, '{')],
    ['is gone', (path: string) => rmSync(path)],
    ['is of a later version', (path: string) => writeFileSync(path, '{"schema": 2}')],
  ])('keeps every image, when it %s, until it is repaired or removed', async (_name, damage) => {
    const id = await service.create(stoppedMachine());
    const manifest = readFileSync(manifestOf(id));
    damage(manifestOf(id));
    for (const name of ['tiny-sleeps', 'other'])
      await expect(service.removeImage(name)).rejects.toMatchObject({
        code: 'running',
        message: expect.stringContaining(id),
      });
    writeFileSync(manifestOf(id), manifest);
    await service.removeImage('other');
    await expect(service.removeImage('tiny-sleeps')).rejects.toMatchObject({ code: 'running' });
    damage(manifestOf(id));
    await service.remove(id);
    await service.removeImage('tiny-sleeps');
  });

  it('keeps images also in a folder that is none of the service', async () => {
    const id = await service.create(stoppedMachine());
    mkdirSync(folder('copied-by-hand'), { mode: 0o700 });
    copyFileSync(manifestOf(id), manifestOf('copied-by-hand'));
    await service.remove(id);
    await expect(service.removeImage('tiny-sleeps')).rejects.toMatchObject({ code: 'running' });
    writeFileSync(manifestOf('copied-by-hand'), 'damaged');
    await expect(service.removeImage('other')).rejects.toMatchObject({ code: 'running' });
  });

  it('lets no other start while it runs: processors, memory and GPUs that it has are not known', async () => {
    const damaged = await service.create(stoppedMachine());
    const other = await service.create(stoppedMachine());
    writeFileSync(manifestOf(damaged), '{');
    await whileRunning(damaged, async () => {
      const refusal = { code: 'no_resources', message: expect.stringMatching(/not known.*Stop it first/s) };
      await expect(service.start(other)).rejects.toMatchObject(refusal);
      await expect(service.create({ ...stoppedMachine(), stopped: false })).rejects.toMatchObject(refusal);
    });
  });

  it('does not start beside another with its context id once it is repaired', async () => {
    const [one, other] = [await service.create(stoppedMachine()), await service.create(stoppedMachine())];
    const { vm } = JSON.parse(readFileSync(manifestOf(one), 'utf8'));
    const manifest = JSON.parse(readFileSync(manifestOf(other), 'utf8'));
    const text = JSON.stringify({ ...manifest, vm: { ...manifest.vm, cid: vm.cid } });
    writeFileSync(manifestOf(other), text);
    await whileRunning(one, async () => {
      await expect(service.start(other)).rejects.toMatchObject({
        code: 'no_resources',
        message: expect.stringContaining(`context id ${vm.cid}`),
      });
    });
  });
});

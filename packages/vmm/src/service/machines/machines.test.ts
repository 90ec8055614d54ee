import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive, processIdentity } from '@dstack-cloud/files';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MACHINE_MARK } from '../../programs/machine-processes.ts';
import { INITIAL_STATE, writeState } from '../../state/state.ts';
import { serviceIn, stoppedMachine } from '../test/service-in.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import { readRecord, writeRecord } from './service-record.ts';

let root: string;
let bystander: ChildProcess;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-machines-'));
  writeTinyImage(join(root, 'image'), 'tiny-sleeps', 'sleeps');
  bystander = spawn('sleep', ['60'], { stdio: 'ignore' });
});
afterEach(() => {
  bystander.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

describeWithPrograms('removing a machine', ['qemu-system-x86_64'], () => {
  it('ends what a killed supervisor left running', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    const env = { ...process.env, [MACHINE_MARK]: join(root, 'vm', id) };
    const left = spawn('sleep', ['60'], { stdio: 'ignore', env });
    await once(left, 'spawn');
    await service.remove(id);
    expect(left.signalCode ?? (await once(left, 'exit'))[1]).toBe('SIGTERM');
    expect(bystander.signalCode).toBeNull();
  });
});

describeWithPrograms('what a killed supervisor left running', ['qemu-system-x86_64'], () => {
  it('still has its memory: no other machine gets it', async () => {
    const service = serviceIn(root, '[cvm]\nmax_allocable_memory_in_mb = 400\n');
    const id = await service.create(stoppedMachine());
    const other = await service.create(stoppedMachine());
    const env = { ...process.env, [MACHINE_MARK]: join(root, 'vm', id) };
    const left = spawn('sleep', ['60'], { stdio: 'ignore', env });
    await once(left, 'spawn');
    try {
      expect(await service.find(id)).toMatchObject({ isAlive: false, holdsHost: true });
      await expect(service.start(other)).rejects.toMatchObject({ code: 'no_resources' });
    } finally {
      left.kill('SIGKILL');
    }
  });
});

describeWithPrograms('starting a machine', ['qemu-system-x86_64'], () => {
  it('that fails does not have it started later', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    rmSync(join(root, 'image/tiny-sleeps/bzImage'));
    await expect(service.start(id)).rejects.toMatchObject({ code: 'bad_image' });
    expect(await readRecord(join(root, 'vm', id))).toMatchObject({ started: false });
    await service.restart(id);
    expect((await service.find(id)).isAlive).toBe(false);
  });
});

describeWithPrograms('stopping a machine', ['qemu-system-x86_64'], () => {
  it('sends no signal to a program that has the process id of its dead supervisor by now', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    const dir = join(root, 'vm', id);
    const identity = processIdentity(bystander.pid!)!;
    const supervisor = { pid: identity.pid, start_time: '1' };
    await writeState(dir, { ...INITIAL_STATE, status: 'running', supervisor });
    await writeRecord(dir, { ...(await readRecord(dir)), started: true });
    await service.stop(id);
    expect(await readRecord(dir)).toMatchObject({ started: false });
    expect([isAlive(identity), bystander.signalCode]).toEqual([true, null]);
  });

  it('works though the service’s record of it is damaged; starting does not', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    writeFileSync(join(root, 'vm', id, 'vmm-service.json'), '{');
    await service.stop(id);
    await expect(service.start(id)).rejects.toMatchObject({ code: 'damaged' });
    await service.remove(id);
  });
});

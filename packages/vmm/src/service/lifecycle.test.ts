/** The service with real QEMU: machines are made, run, changed and removed through its RPC. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { appCompose, ask, ServiceLab, tinyMachine, until } from './test/service-lab.ts';

const NODE = '/sys/devices/system/node/node0/cpulist';

describeWithPrograms('machines of the service', ['qemu-system-x86_64'], () => {
  let lab: ServiceLab;
  beforeAll(async () => {
    lab = new ServiceLab('[cvm.port_mapping]\nenabled = true');
    await lab.start();
  }, 60_000);
  afterAll(() => lab.cleanUp(), 60_000);

  it('are made stopped, started, seen, shut down, changed and removed', async () => {
    const { id } = await lab.must('CreateVm', tinyMachine({ image: 'tiny-obeys', stopped: true }));
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(await lab.info(id)).toMatchObject({
      ...{ name: 'tiny', status: 'stopped', uptime: 'never', image_version: '0.6.0' },
      configuration: { vcpu: 1, memory: 256, disk_size: 1, compose_file: appCompose(), no_tee: true },
    });

    await lab.must('StartVm', { id });
    await lab.bringUp(id);
    expect(await lab.info(id)).toMatchObject({ status: 'running', boot_error: '', exited_at: null });
    expect((await lab.call('StartVm', { id })).json.error).toMatch(/runs already/);
    expect((await lab.call('RemoveVm', { id })).json.error).toMatch(/is running: stop it first/);

    await lab.must('ShutdownVm', { id });
    await until(async () => (await lab.info(id)).status === 'stopped');
    expect(await lab.supervisors()).toEqual([]);

    const composeFile = appCompose({ name: 'web2' });
    const changed = await lab.must('UpdateVm', { id, compose_file: composeFile, disk_size: 2, vcpu: 2 });
    expect(changed.id).toMatch(/^[0-9a-f]{40}$/);
    expect((await lab.info(id)).configuration).toMatchObject({
      compose_file: composeFile,
      disk_size: 2,
      vcpu: 2,
    });
    expect(statSync(join(lab.runPath, id, 'data.img')).size).toBe(2 * 2 ** 30);

    await lab.must('RemoveVm', { id });
    expect(await lab.must('GetInfo', { id })).toEqual({ found: false, info: null });
    expect(readdirSync(join(lab.runPath, '.trash'))).toHaveLength(1);
    expect(existsSync(join(lab.runPath, id))).toBe(false);
  }, 120_000);

  it('start as they are made, and are ended at once', async () => {
    const sleeper = (await lab.must('CreateVm', tinyMachine())).id;
    await lab.bringUp(sleeper);
    await lab.must('StopVm', { id: sleeper });
    expect((await lab.info(sleeper)).status).toBe('stopped');
    await lab.must('RemoveVm', { id: sleeper });
  }, 120_000);

  it.skipIf(!existsSync(NODE))(
    'run on the processors of one NUMA node',
    async () => {
      const { id } = await lab.must('CreateVm', tinyMachine({ pin_numa: true }));
      await lab.booted(id);
      expect((await lab.info(id)).configuration).toMatchObject({ pin_numa: true, gpus: null });
      const [supervisor] = await lab.supervisors();
      const children = readFileSync(`/proc/${supervisor}/task/${supervisor}/children`, 'utf8')
        .trim()
        .split(' ');
      const qemu = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('-qmp'));
      const allowed = /Cpus_allowed_list:\s*(.*)/.exec(readFileSync(`/proc/${qemu}/status`, 'utf8'))?.[1];
      expect(allowed).toBe(readFileSync(NODE, 'utf8').trim());
      await lab.must('StopVm', { id });
      await lab.must('RemoveVm', { id });
    },
    120_000,
  );

  it('show their console, whole and followed', async () => {
    const { id } = await lab.must('CreateVm', tinyMachine());
    await lab.booted(id);
    const query = `/logs?id=${id}&follow=false&ansi=false&lines=20`;
    const { status, text, headers } = await ask(lab.socket, query, { method: 'GET' });
    expect([status, headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
    expect(text).toContain('tiny guest\n');
    await lab.must('StopVm', { id });
    await lab.must('RemoveVm', { id });
  }, 120_000);
});

/** Machines live on while their service is killed, and the next one knows them. */
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { ServiceLab, tinyMachine, until } from '@dstack-cloud/vmm/service-lab';
import { afterAll, beforeAll, expect, it } from 'vitest';

describeWithPrograms('a service that is started again', ['qemu-system-x86_64'], () => {
  let lab: ServiceLab;
  beforeAll(() => {
    lab = new ServiceLab('[cvm.auto_restart]\ninterval = 1\ninitial_backoff = 1\n');
  });
  afterAll(() => lab.cleanUp(), 60_000);

  it('vm-vmm-restart: finds its machines as it left them, and starts those that are to run and do not', async () => {
    await lab.start();
    const { id } = await lab.must('CreateVm', tinyMachine());
    await lab.bringUp(id);
    const [supervisor] = await lab.supervisors();
    const before = await lab.info(id);

    await lab.stop('SIGKILL');
    expect(await lab.supervisors()).toEqual([supervisor]);
    await lab.start();
    expect(await lab.info(id)).toMatchObject({ ...before, uptime: expect.any(String) });
    expect(await lab.supervisors()).toEqual([supervisor]);
    // As when the host goes down: nobody is left to write anything.
    process.kill(supervisor!, 'SIGKILL');
    await until(async () => {
      const [next] = await lab.supervisors();
      return next !== undefined && next !== supervisor;
    });
    await lab.booted(id);
    expect((await lab.info(id)).status).toBe('running');

    // What was stopped stays stopped, also over a restart of the service.
    await lab.must('StopVm', { id });
    await lab.stop('SIGTERM');
    await lab.start();
    expect((await lab.info(id)).status).toBe('stopped');
    expect(await lab.supervisors()).toEqual([]);
  }, 180_000);
});

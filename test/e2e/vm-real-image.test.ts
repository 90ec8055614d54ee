/** The service with our OS image: made by RPC, booted, asked through the proxy, adopted by the next service, shut down in order. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { appCompose, ask, ServiceLab, until } from '@dstack-cloud/vmm/service-lab';
import { afterAll, expect, test } from 'vitest';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';

/** A boot takes a minute on a quiet machine without KVM, and several on a loaded one. */
const BOOT_MS = 600_000;

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', ...missingForVm()];
describeWithPrograms('the service with the OS image', needed, () => {
  const lab = new ServiceLab('simulated_tee_seed = "./seed"\n');
  afterAll(() => lab.cleanUp(), 120_000);

  const guest = async (method: string, id: string) =>
    await ask(lab.socket, `/guest/${method}?json`, { body: JSON.stringify({ id }) });
  const log = async (id: string): Promise<string> =>
    (await ask(lab.socket, `/logs?id=${id}&follow=false&ansi=false&lines=400`, { method: 'GET' })).text;

  test('vm-real-image: boots, answers, outlives its service, and ends in order', {
    timeout: 2 * BOOT_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const toml = readFileSync(lab.configFile, 'utf8');
    writeFileSync(lab.configFile, toml.replace('"./image"', JSON.stringify(dirname(built.folder))));
    const image = basename(built.folder);
    await lab.start();
    const script = 'echo "started: $(date -u +%Y)" > /dev/console\nexec sleep infinity\n';
    const compose_file = appCompose({
      runner: 'bash',
      docker_compose_file: undefined,
      bash_script: script,
      secure_time: false,
    });
    const machine = { name: 'real', image, compose_file, vcpu: 2, memory: 2048, disk_size: 2 };
    const { id } = await lab.must('CreateVm', machine);
    await until(async () => {
      const { status, boot_progress, boot_error } = await lab.info(id);
      if (status !== 'running') throw new Error(`${status}: ${boot_error}\n${await log(id)}`);
      return boot_progress === 'done';
    }, BOOT_MS);
    const info = await lab.info(id);
    expect(info).toMatchObject({ boot_error: '', instance_id: expect.stringMatching(/^[0-9a-f]{40}$/) });
    expect(await log(id)).toContain('SIMULATED');

    const told = await guest('Info', id);
    expect(told.json, told.text).toMatchObject({ app_id: info.app_id, instance_id: info.instance_id });
    expect((await guest('SysInfo', id)).json).toMatchObject({ num_cpus: 2, os_name: expect.any(String) });
    const { interfaces } = (await guest('NetworkInfo', id)).json;
    expect(JSON.stringify(interfaces)).toContain('10.0.2.15');

    const supervisors = await lab.supervisors();
    await lab.stop('SIGKILL');
    await lab.start();
    expect(await lab.supervisors()).toEqual(supervisors);
    expect((await lab.info(id)).status).toBe('running');
    expect((await guest('Info', id)).json).toEqual(told.json);

    await lab.must('ShutdownVm', { id });
    await until(async () => (await lab.info(id)).status === 'stopped', BOOT_MS);
    const ended = await lab.info(id);
    expect(ended).toMatchObject({ shutdown_progress: 'powering off', boot_error: '' });
    expect(await lab.supervisors()).toEqual([]);
    expect((await guest('Info', id)).json.error).toMatch(/is not running/);

    await lab.must('RemoveVm', { id });
    expect((await lab.must('Status')).total).toBe(0);
    expect(existsSync(join(lab.runPath, id))).toBe(false);
    expect(readdirSync(join(lab.runPath, '.trash'))).toHaveLength(1);
  });
});

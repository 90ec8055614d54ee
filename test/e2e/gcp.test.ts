/** Platform gcp against an emulated Google Cloud, which refuses whatever Google's own schema does not describe. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startOfDisk } from '../harness/gcp/compute/image-archive.ts';
import { type GcpLab, gcpLab, INSTANCE, leftovers } from '../harness/gcp/gcp-lab.ts';
import { runCommand } from '../harness/run-command.ts';

const BOOT_IMAGE = 'dstack-cloud-0-6-0-abababab';
const MIB = 1024 * 1024;

// Several deploys in one test: on a busy machine each takes seconds.
describe('a project on Google Cloud, from its first deploy to its removal', { timeout: 180_000 }, () => {
  let lab: GcpLab;
  const servers: Server[] = [];
  beforeAll(async () => {
    lab = await gcpLab();
  });
  afterEach(() => expect(lab.gcp.schemaErrors).toEqual([]));
  afterAll(async () => {
    for (const server of servers) server.close();
    await lab?.cleanUp();
  });
  const disks = () => lab.gcp.compute.instances.get(INSTANCE)?.body.disks ?? [];
  const shared = () => String(disks()[2]?.source).split('/').at(-1) ?? '';

  it('says what it would make, and makes nothing', async () => {
    const { stdout } = await lab.must('plan');
    expect(stdout).toContain('make    bucket gs://test-project-dstack');
    expect(stdout).toContain(`make    image ${BOOT_IMAGE}`);
    expect(stdout).toContain(`make    instance ${INSTANCE} (c3-standard-4 in us-central1-a)`);
    expect(stdout).toContain('Data: a new data disk');
    const { stdout: json } = await lab.must('plan', '--json');
    expect(JSON.parse(json)).toMatchObject({ deployed: null, refused: null });
    await lab.must('deploy', '--dry-run');
    // No key service is configured here.
    const { code, stdout: findings } = await lab.cli(['doctor']);
    expect(findings).toMatch(/^ok\s+zone\s+us-central1-a has c3-standard-4$/m);
    expect([code, findings.match(/^bad.*$/gm)]).toEqual([1, ['bad   KMS              no KMS is configured']]);
    expect(leftovers(lab)).toMatchObject({ instances: [], disks: [], images: [], buckets: [] });
    expect((await lab.must('status')).stdout).toContain(
      "No deployment found. Run 'dstack-cloud deploy' first.",
    );
  });

  it('deploys: one instance with TDX, its three disks, and no upload left', async () => {
    writeFileSync(join(lab.project, '.user-config'), '{"token":"secret"}');
    const { stdout } = await lab.must('deploy');
    expect(stdout).toContain(`Deployed ${INSTANCE}`);
    expect(leftovers(lab)).toEqual({
      ...{ instances: [INSTANCE], disks: [INSTANCE, `${INSTANCE}-data`, shared()], images: [BOOT_IMAGE] },
      ...{ firewalls: [], buckets: ['test-project-dstack'], objects: [] },
    });
    expect(lab.gcp.compute.instances.get(INSTANCE)?.body).toMatchObject({
      machineType: 'zones/us-central1-a/machineTypes/c3-standard-4',
      confidentialInstanceConfig: { confidentialInstanceType: 'TDX' },
      shieldedInstanceConfig: { enableVtpm: true, enableSecureBoot: false },
      tags: { items: [`fw-${INSTANCE}`] },
      labels: { 'dstack-cloud': '1', 'dstack-boot-image': BOOT_IMAGE },
    });
    // No credential of the project is in the guest.
    expect(lab.gcp.compute.instances.get(INSTANCE)?.body).not.toHaveProperty('serviceAccounts');
    expect(disks().map(({ deviceName, autoDelete }) => [deviceName, autoDelete])).toEqual([
      ['boot', true],
      ['data', false],
      ['shared', true],
    ]);
    expect(lab.state()).toMatchObject({ status: 'RUNNING', instance_name: INSTANCE, boot_image: BOOT_IMAGE });
  });

  it('hands over the files that it measured', async () => {
    const disk = lab.gcp.compute.disks.get(`us-central1-a/${shared()}`);
    const volume = join(lab.root, 'volume');
    writeFileSync(volume, await startOfDisk(String(disk?.['archive']), 64 * MIB));
    for (const name of ['app-compose.json', '.sys-config.json', '.instance_info', '.user-config'])
      expect(execFileSync('mtype', ['-i', volume, `::${name}`])).toEqual(
        readFileSync(join(lab.project, 'shared', name)),
      );
  });

  it('shows state, console and containers', async () => {
    const status = (await lab.must('status')).stdout;
    expect(status).toMatch(/^Status: {7}RUNNING$/m);
    expect(status).toMatch(/^External IP: {2}127\./m);
    expect(status).toContain('compose-hash:');
    lab.gcp.compute.write(INSTANCE, 'one\ntwo\nthree\n');
    expect((await lab.must('logs', '-n', '2')).stdout).toBe('two\nthree\n');
    expect(await lab.cli(['logs', '--container', 'web'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('fw allow 8090'),
    });
    const agent = createServer((request, response) => {
      const isThere = request.url?.startsWith('/logs/dstack-web-1?');
      response.writeHead(isThere ? 200 : 404).end('of the container\n');
    });
    servers.push(agent);
    const address = String(lab.state()['external_ip']);
    await new Promise<void>((resolve) => agent.listen(8090, address, resolve));
    await lab.must('fw', 'allow', '8090');
    expect((await lab.must('logs', '--container', 'web')).stdout).toBe('of the container\n');
    const listed = JSON.parse((await lab.must('list', '--json')).stdout);
    expect(listed).toMatchObject([{ name: INSTANCE, status: 'RUNNING' }]);
  });

  it('follows a console that loses its oldest bytes', async () => {
    const stop = new AbortController();
    let stdout = '';
    let stderr = '';
    const running = lab.cli(['logs', '--follow', '-n', '1'], {
      signal: stop.signal,
      stdout: (text) => {
        stdout += text;
      },
      stderr: (text) => {
        stderr += text;
      },
    });
    const until = async (is: () => boolean): Promise<void> => {
      for (let i = 0; i < 400 && !is(); i += 1) await new Promise((resolve) => setTimeout(resolve, 25));
      expect(is()).toBe(true);
    };
    await until(() => stdout.includes('three'));
    lab.gcp.compute.write(INSTANCE, `${'x'.repeat(2 * MIB)}\nlast\n`);
    await until(() => stdout.includes('last'));
    stop.abort();
    expect(await running).toMatchObject({ code: 0 });
    expect(stderr).toMatch(/bytes of the console were overwritten/);
    expect(stdout).toContain('Stopped following logs.');
  });

  it('opens and closes ports', async () => {
    await lab.must('fw', 'allow', '8080', '-s', '10.0.0.0/8', '-s', '192.0.2.1');
    expect((await lab.must('fw', 'allow', '8080', '-s', '10.0.0.0/8')).stdout).toContain('Changed');
    expect((await lab.must('fw', 'allow', '8080', '-s', '10.0.0.0/8')).stdout).toContain('Already there');
    await lab.must('fw', 'deny', '53/udp');
    const rule = lab.gcp.compute.firewalls.get(`${INSTANCE}-deny-udp-53`);
    expect(rule).toMatchObject({
      priority: 900,
      targetTags: [`fw-${INSTANCE}`],
      sourceRanges: ['0.0.0.0/0'],
    });
    expect((await lab.must('fw', 'list')).stdout.trim().split('\n')).toHaveLength(3);
    expect((await lab.must('fw', 'remove', '8080')).stdout).toContain('Removed 1');
    expect((await lab.must('fw', 'remove', '8080')).stdout).toContain('No rule');
    for (const port of ['0', '65536', 'http', '80/sctp'])
      expect(await lab.cli(['fw', 'allow', port])).toMatchObject({ code: 2 });
  });

  it('is found by the program as it is shipped, bundled', async () => {
    const { directory } = await build();
    const env = { HOME: lab.root, DSTACK_CLOUD_CONFIG: join(lab.root, 'config.json'), ...lab.gcp.env };
    const program = [process.execPath, join(directory, 'dstack-cloud.js'), '-C', lab.project];
    const { code, stdout, stderr } = await runCommand([...program, 'status'], { env });
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Status: {7}RUNNING$/m);
  });

  it('stops and starts', async () => {
    expect((await lab.must('stop')).stdout).toContain('Stopped');
    expect(lab.state()).toMatchObject({ status: 'STOPPED' });
    expect((await lab.must('stop')).stdout).toContain('was not running');
    await lab.must('start');
    expect(lab.state()).toMatchObject({ status: 'RUNNING' });
  });

  it('updates in place: other files, the same data disk, no second upload of the boot image', async () => {
    const before = lab.state();
    lab.gcp.forgetCalls();
    lab.setCompose(`nginx@sha256:${'2'.repeat(64)}`);
    expect((await lab.must('plan')).stdout).toContain(`change  instance ${INSTANCE}`);
    await lab.must('deploy');
    const { compose_hash } = lab.state();
    expect(compose_hash).not.toBe(before['compose_hash']);
    expect(lab.gcp.calls.filter(({ path }) => path.startsWith('/upload/')).length).toBe(2);
    expect(disks().map(({ deviceName }) => deviceName)).toEqual(['boot', 'data', 'shared']);
    expect(leftovers(lab)).toMatchObject({ disks: [INSTANCE, `${INSTANCE}-data`, shared()], objects: [] });
  });

  it('goes back to the revision before, and forward again', async () => {
    const { compose_hash: second } = lab.state();
    await lab.must('rollback');
    const { compose_hash: first } = lab.state();
    expect(first).not.toBe(second);
    expect((await lab.must('status')).stdout).toContain('deploy to update');
    await lab.must('deploy');
    expect(lab.state()['compose_hash']).toBe(second);
    expect(await lab.cli(['rollback', '7'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('revision 7'),
    });
  });

  it('boots another OS image from another disk, and keeps the data', async () => {
    lab.addImage('dstack-cloud-0.6.1', 'cd'.repeat(32));
    lab.setConfig({}, { os_image: 'dstack-cloud-0.6.1' });
    await lab.must('deploy');
    expect(lab.state()).toMatchObject({ boot_image: 'dstack-cloud-0-6-1-cdcdcdcd' });
    expect(disks().map(({ deviceName, boot }) => [deviceName, boot])).toEqual([
      ['boot', true],
      ['data', false],
      ['shared', false],
    ]);
    expect(leftovers(lab)['disks']).toHaveLength(3);
  });

  it('makes the data disk as large as asked for, and never smaller', async () => {
    const disk = () => lab.gcp.compute.disks.get(`us-central1-a/${INSTANCE}-data`);
    lab.setConfig({ data_size: 30 });
    expect((await lab.must('plan')).stdout).toContain(`change  disk ${INSTANCE}-data (20 GB to 30 GB)`);
    await lab.must('deploy');
    expect(disk()).toMatchObject({ sizeGb: '30' });
    lab.setConfig({ data_size: 25 });
    expect((await lab.must('deploy')).stderr).toContain('The data disk keeps its 30 GB');
    expect(disk()).toMatchObject({ sizeGb: '30' });
  });

  it('makes the machine new with the old data disk, and with a new one when asked to', async () => {
    const data = () => lab.gcp.compute.disks.get(`us-central1-a/${INSTANCE}-data`);
    const before = data();
    await lab.must('deploy', '--delete');
    expect(data()).toBe(before);
    expect(await lab.cli(['deploy', '--delete-data'])).toMatchObject({ code: 4 });
    expect(data()).toBe(before);
    await lab.must('deploy', '--delete-data', '--yes');
    expect(data()).not.toBe(before);
    expect(leftovers(lab)).toMatchObject({ instances: [INSTANCE], objects: [] });
  });

  it('finds the machine without state.json', async () => {
    execFileSync('mv', [join(lab.project, 'state.json'), join(lab.root, 'lost')]);
    expect((await lab.must('status')).stdout).toMatch(/^Status: {7}RUNNING$/m);
    await lab.must('deploy');
    expect(leftovers(lab)['instances']).toEqual([INSTANCE]);
  });

  it('removes the machine and keeps its data, then everything that it made and nothing else', async () => {
    await lab.must('remove', '--yes');
    expect(leftovers(lab)).toMatchObject({ instances: [], disks: [`${INSTANCE}-data`] });
    expect(lab.state()).toMatchObject({ status: 'REMOVED' });
    lab.gcp.compute.disks.set('us-central1-a/somebody', { name: 'somebody', zone: 'us-central1-a' });
    await lab.must('remove', '--all', '--yes');
    expect(leftovers(lab)).toEqual({
      ...{ instances: [], disks: ['somebody'], images: [], firewalls: [], buckets: [], objects: [] },
    });
  });
});

/**
 * What the original's command line sends, byte for byte as Python's json.dumps and http.client write it, and what it reads
 * in the answers.
 */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appCompose, ServiceLab, until } from './test/service-lab.ts';
import { writeTinyImage } from './test/tiny-image.ts';

let lab: ServiceLab;
beforeAll(async () => {
  lab = new ServiceLab(
    '[cvm.port_mapping]\nenabled = true\nrange = [{ protocol = "tcp", from = 20000, to = 29999 }]',
  );
  await lab.start();
}, 60_000);
afterAll(() => lab.cleanUp(), 60_000);

/** As json.dumps has it: blanks behind colons and commas, everything but ASCII escaped. */
function python(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (value !== null && typeof value === 'object')
    return `{${Object.entries(value)
      .map(([key, item]) => `${python(key)}: ${python(item)}`)
      .join(', ')}}`;
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Sends the bytes of http.client, and gives status and body. */
async function send(
  method: 'GET' | 'POST',
  path: string,
  body?: string,
): Promise<{ status: number; text: string }> {
  const head = [
    `${method} ${path} HTTP/1.1`,
    'Host: localhost',
    'Accept-Encoding: identity',
    ...(body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
    'Content-Type: application/json',
  ];
  const socket = connect({ path: lab.socket });
  socket.write(`${head.join('\r\n')}\r\n\r\n${body ?? ''}`);
  const chunks: Buffer[] = [];
  return await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      const text = Buffer.concat(chunks).toString('utf8');
      const end = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text.slice(0, end))?.[1] ?? Number.NaN);
      if (end < 0 || Buffer.byteLength(text.slice(end + 4)) < length) return;
      socket.destroy();
      resolve({ status: Number(text.split(' ')[1]), text: text.slice(end + 4) });
    });
  });
}

// biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is in the test
async function rpc(method: string, params: object = {}): Promise<any> {
  const { status, text } = await send('POST', `/prpc/${method}?json`, python(params));
  if (status !== 200) throw new Error(text);
  return JSON.parse(text);
}

/** All that `deploy` sends when nothing but the required options is given. */
const deploy = (change: object = {}) => ({
  ...{ name: 'demo', image: 'tiny-sleeps', compose_file: appCompose({ name: 'café' }) },
  ...{ vcpu: 1, memory: 1024, disk_size: 20, app_id: null, user_config: '', ports: [] },
  ...{ hugepages: false, pin_numa: false, stopped: true, no_tee: true, ...change },
});

describeWithPrograms("the original's command line", ['qemu-system-x86_64'], () => {
  it('lsvm, lsimage, lsgpu of a new host', async () => {
    expect(await rpc('Status')).toEqual({ vms: [], port_mapping_enabled: true, total: 0 });
    const { images } = await rpc('ListImages');
    expect(images.map(({ name, version }: { name: string; version: string }) => [name, version])).toEqual([
      ['tiny-obeys', '0.6.0'],
      ['tiny-powers-off', '0.6.0'],
      ['tiny-sleeps', '0.6.0'],
    ]);
    expect(JSON.parse(images[0].description)).toMatchObject({ kernel: 'bzImage', is_dev: true });
    expect(await rpc('ListGpus')).toEqual({ gpus: [], allow_attach_all: false });
  });

  it('deploy, lsvm, info, resize, update, update-env, update-ports, stop, remove', async () => {
    const { id } = await rpc('CreateVm', deploy({ swap_size: 1_073_741_824, networking: { mode: 'user' } }));
    const { vms, total } = await rpc('Status');
    expect(total).toBe(1);
    expect(vms[0]).toMatchObject({ id, name: 'demo', status: 'stopped', uptime: 'never', instance_id: null });
    // The app id of a machine that names none is the beginning of its compose hash.
    const { hash } = await rpc('GetComposeHash', { compose_file: appCompose({ name: 'café' }) });
    expect(vms[0].app_id).toBe(hash.slice(0, 40));
    expect(vms[0].configuration).toMatchObject({
      vcpu: 1,
      memory: 1024,
      disk_size: 20,
      image: 'tiny-sleeps',
    });

    expect(await rpc('ResizeVm', { id, vcpu: 2, memory: 512, disk_size: 21 })).toBeNull();
    const env = { id, encrypted_env: 'ab'.repeat(64), compose_file: appCompose({ allowed_envs: ['KEY'] }) };
    await expect(rpc('UpgradeApp', env)).rejects.toThrow(/encrypted_env/);
    const compose_file = appCompose({ allowed_envs: ['KEY'], key_provider: undefined, kms_enabled: true });
    await expect(rpc('UpgradeApp', { ...env, compose_file })).rejects.toThrow(/no kms_urls are given/);
    const kms = { update_kms_urls: true, kms_urls: ['https://kms.example.com:12001'] };
    const { id: appId } = await rpc('UpgradeApp', { ...env, ...kms, compose_file });
    expect(appId).toMatch(/^[0-9a-f]{40}$/);
    expect(await rpc('UpgradeApp', { id, user_config: '{"a": "b"}' })).toEqual({ id: '' });
    const ports = [{ protocol: 'tcp', host_address: '127.0.0.1', host_port: 20_080, vm_port: 80 }];
    expect(await rpc('UpgradeApp', { id, update_ports: true, ports })).toEqual({ id: '' });

    const { found, info } = await rpc('GetInfo', { id });
    expect(found).toBe(true);
    expect(info.configuration).toMatchObject({
      ...{ vcpu: 2, memory: 512, disk_size: 21, ports, compose_file, encrypted_env: 'ab'.repeat(64) },
      ...{ user_config: '{"a": "b"}', kms_urls: ['https://kms.example.com:12001'], gpus: null },
    });
    const shared = join(lab.runPath, id, 'shared');
    expect(readFileSync(join(shared, 'app-compose.json'), 'utf8')).toBe(compose_file);
    expect(JSON.parse(readFileSync(join(shared, '.sys-config.json'), 'utf8')).kms_urls).toEqual(kms.kms_urls);
    expect(JSON.parse(readFileSync(join(shared, '.instance_info'), 'utf8')).app_id).toBe(vms[0].app_id);

    expect((await send('GET', `/logs?id=${id}&follow=false&ansi=false&lines=20`)).status).toBe(200);
    await expect(rpc('ShutdownVm', { id })).rejects.toThrow(/is not running/);
    expect(await rpc('StopVm', { id })).toBeNull();
    expect(await rpc('RemoveVm', { id })).toBeNull();
    expect(await rpc('GetInfo', { id })).toEqual({ found: false, info: null });
    await expect(rpc('StartVm', { id })).rejects.toThrow(/There is no VM/);
  }, 60_000);

  it('older names and the other documented methods', async () => {
    expect(await rpc('Teepod.Version')).toEqual({ version: '0.1.0', rev: '' });
    expect(await rpc('Vmm.GetMeta')).toMatchObject({
      resources: { max_cvm_number: 100, max_allocable_vcpu: 20, max_allocable_memory_in_mb: 100_000 },
      networking: { supported_modes: ['user'], default_mode: 'user' },
    });
    expect(await rpc('ReloadVms')).toMatchObject({ loaded: 0, removed: 0 });
    await expect(rpc('GetAppEnvEncryptPubKey', { app_id: '11'.repeat(20) })).rejects.toThrow(/kms_url/);
    await expect(rpc('Reboot')).rejects.toThrow(/Service not found/);
    expect((await send('POST', '/api/Info?json', '{}')).text).toMatch(/Only guests may call this/);
    expect((await send('POST', '/guest/Info?json', python({ id: 'x' }))).text).toMatch(/There is no VM/);
    for (const path of ['/prpc/openapi.json', '/api-docs', '/guest/openapi.json'])
      expect(JSON.parse((await send('GET', path)).text).openapi).toBe('3.1.0');
    expect((await send('GET', '/metrics')).text).toMatch(/dstack_vmm_machines\{status="running"\} 0/);
  });

  it('update with and without GPUs', async () => {
    const { id } = await rpc('CreateVm', deploy());
    // As `update --gpu 18:00.0`, `--gpu all` and `--no-gpus` send it.
    const listed = { attach_mode: 'listed', gpus: [{ slot: '18:00.0' }] };
    await expect(rpc('UpdateVm', { id, gpus: listed })).rejects.toThrow(/cvm\.gpu\.enabled/);
    await expect(rpc('UpdateVm', { id, gpus: { attach_mode: 'all', gpus: [] } })).rejects.toThrow(
      /gives no GPUs/,
    );
    expect(await rpc('UpdateVm', { id, gpus: { attach_mode: 'listed', gpus: [] } })).toEqual({ id: '' });
    expect((await rpc('GetInfo', { id })).info.configuration.gpus).toBeNull();
    await rpc('RemoveVm', { id });
  }, 60_000);

  it('logs that are followed, until the reader goes', async () => {
    const { id } = await rpc('CreateVm', deploy({ stopped: false, memory: 256 }));
    await lab.booted(id);
    const socket = connect({ path: lab.socket });
    socket.write(`GET /logs?id=${id}&follow=true&ansi=false&lines=20 HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
    });
    await until(() => text.includes('tiny guest'));
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
    // What comes later arrives as well.
    appendFileSync(join(lab.runPath, id, 'logs/serial.log'), 'a later line\n');
    await until(() => text.includes('a later line'));
    socket.destroy();
    await rpc('StopVm', { id });
    await rpc('RemoveVm', { id });
  }, 120_000);

  it('the processes that keep machines running', async () => {
    const { id } = await rpc('CreateVm', deploy({ stopped: false, memory: 256 }));
    await lab.booted(id);
    const { processes } = await rpc('SvList');
    expect(processes).toEqual([
      expect.objectContaining({ id, name: 'demo', status: 'running', note: '{"kind":"cvm"}' }),
    ]);
    expect(await lab.supervisors()).toEqual([processes[0].pid]);
    await expect(rpc('SvRemove', { id })).rejects.toThrow(/is running: stop it first/);
    await rpc('SvStop', { id });
    expect((await rpc('SvList')).processes).toEqual([
      expect.objectContaining({ id, status: 'stopped', pid: null }),
    ]);
    expect(await rpc('SvRemove', { id })).toBeNull();
    // The machine itself stays.
    expect((await rpc('GetInfo', { id })).found).toBe(true);
    await rpc('RemoveVm', { id });
    await expect(rpc('SvStop', { id })).rejects.toThrow(/There is no VM/);
  }, 120_000);

  it('images: deleted when no machine boots them; none are pulled', async () => {
    writeTinyImage(lab.imagePath, 'tiny-old', 'sleeps');
    mkdirSync(join(lab.imagePath, 'precious'));
    const { id } = await rpc('CreateVm', deploy({ image: 'tiny-old' }));
    await expect(rpc('DeleteImage', { id: 'tiny-old' })).rejects.toThrow(/Machines boot the image tiny-old/);
    await rpc('RemoveVm', { id });
    expect(await rpc('DeleteImage', { id: 'tiny-old' })).toBeNull();
    for (const name of ['tiny-old', 'precious', '../image/tiny-sleeps', ''])
      await expect(rpc('DeleteImage', { id: name })).rejects.toThrow(/There is no OS image/);
    expect(readdirSync(lab.imagePath).sort()).toEqual([
      'precious',
      'tiny-obeys',
      'tiny-powers-off',
      'tiny-sleeps',
    ]);
    for (const [method, body] of [
      ['ListRegistryImages', {}],
      ['PullRegistryImage', { tag: '0.6.0' }],
    ] as const)
      await expect(rpc(method, body)).rejects.toThrow(/pulls no images/);
  }, 60_000);

  it('pages, brief and keyword of Status', async () => {
    const ids: string[] = [];
    for (const name of ['one', 'two', 'three']) ids.push((await rpc('CreateVm', deploy({ name }))).id);
    const names = async (query: object) =>
      (await rpc('Status', query)).vms.map(({ name }: { name: string }) => name);
    expect(await names({ page: 1, page_size: 2 })).toEqual(['one', 'two']);
    expect(await names({ page: 2, page_size: 2 })).toEqual(['three']);
    expect(await names({ keyword: 'TW' })).toEqual(['two']);
    expect(await names({ ids: [ids[2]] })).toEqual(['three']);
    expect((await rpc('Status', { brief: true })).vms[0].configuration).toBeNull();
    for (const id of ids) await rpc('RemoveVm', { id });
  }, 60_000);
});

describe.each([
  ['a name with a path', { name: '../x' }, /name cannot be used/],
  ['an empty name', { name: '' }, /name cannot be used/],
  ['a name of blanks', { name: '  ' }, /name cannot be used/],
  ['a long name', { name: 'a'.repeat(129) }, /name cannot be used/],
  ['a name of letters that look like others', { name: 'аdmin' }, /name cannot be used/],
  ['a name with control characters', { name: 'a\u001b[2J' }, /name cannot be used/],
  ['an image elsewhere', { image: '../../etc' }, /image cannot be used/],
  ['an image that is not there', { image: 'none-1.0.0' }, /There is no OS image/],
  ['an app id that is none', { app_id: 'xyz' }, /app_id cannot be used/],
  ['no processor', { vcpu: 0 }, /vcpu cannot be used/],
  ['more processors than the host gives', { vcpu: 21 }, /max_allocable_vcpu/],
  ['more memory than the host gives', { memory: 200_000 }, /max_allocable_memory_in_mb/],
  ['no disk', { disk_size: 0 }, /disk_size cannot be used/],
  ['a disk larger than allowed', { disk_size: 5000 }, /max_disk_size_in_gb/],
  ['huge pages that the host does not have', { hugepages: true, memory: 98_304 }, /huge ?pages/],
  ['all GPUs of a host that gives none', { gpus: { attach_mode: 'all' } }, /gives no GPUs/],
  ['a GPU', { gpus: { attach_mode: 'listed', gpus: [{ slot: '18:00.0' }] } }, /cvm\.gpu\.enabled/],
  ['a port out of the range', { ports: [{ protocol: 'tcp', host_port: 80, vm_port: 80 }] }, /not allowed/],
  ['a bridge that nobody named', { networks: [{ mode: 'bridge', bridge_name: 'docker0' }] }, /bridge_name/],
  ['a networking mode of QEMU', { networking: { mode: 'tap,script=/x' } }, /networking mode/],
  ['a KMS that is a file', { kms_urls: ['file:///etc/passwd'] }, /kms_urls/],
  ['no application', { compose_file: '' }, /app-compose\.json/],
  ['a broken application', { compose_file: '{"manifest_version": 2' }, /app-compose\.json/],
  [
    'an application with a broken compose file',
    { compose_file: appCompose({ docker_compose_file: 'services: [' }) },
    /./,
  ],
  ['an unknown runner', { compose_file: appCompose({ runner: 'none' }) }, /unsupported runner/],
  ['a TEE that the host does not have', { no_tee: false }, /no TDX|memory/],
  ['a user configuration beyond the limit', { user_config: 'x'.repeat(1_048_577) }, /user_config has/],
])('CreateVm with %s', (_name, change, message) => {
  it('is refused, and leaves nothing behind', async () => {
    await expect(rpc('CreateVm', deploy(change))).rejects.toThrow(message);
    expect((await rpc('Status')).total).toBe(0);
  });
});

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseConfig } from './config/load-config.ts';
import { announce } from './discovery.ts';

let runtime: string;
beforeEach(() => {
  runtime = mkdtempSync(join(tmpdir(), 'vmm-runtime-'));
});
afterEach(() => rmSync(runtime, { recursive: true, force: true }));

const config = parseConfig('node_name = "host 1"', 'vmm.toml');

it('says where the service is, for as long as it runs', async () => {
  const withdraw = await announce(config, 'unix:/run/vmm.sock', '/etc/vmm.toml', runtime);
  const folder = join(runtime, 'dstack-vmm');
  const [name = ''] = readdirSync(folder);
  expect([statSync(folder).mode & 0o777, statSync(join(folder, name)).mode & 0o777]).toEqual([0o700, 0o600]);
  // The names and units that vmm-cli reads.
  const found = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  expect(found).toMatchObject({
    ...{ id: name.slice(0, -'.json'.length), pid: process.pid, address: 'unix:/run/vmm.sock' },
    ...{ config_file: '/etc/vmm.toml', working_dir: process.cwd(), node_name: 'host 1' },
    ...{ image_path: config.image_path, run_path: config.run_path },
  });
  expect(Math.abs(found.started_at - Date.now() / 1000)).toBeLessThan(60);
  await withdraw?.();
  expect(readdirSync(folder)).toEqual([]);
});

it('says nothing where that is switched off, or there is no folder for it', async () => {
  const quiet = { ...config, discovery: { enabled: false } };
  expect(await announce(quiet, 'unix:/x', undefined, runtime)).toBeUndefined();
  expect(await announce(config, 'unix:/x', undefined, '')).toBeUndefined();
  expect(readdirSync(runtime)).toEqual([]);
});

it('writes through no link', async () => {
  mkdirSync(join(runtime, 'elsewhere'));
  symlinkSync(join(runtime, 'elsewhere'), join(runtime, 'dstack-vmm'));
  await expect(announce(config, 'unix:/x', undefined, runtime)).rejects.toThrow();
  expect(readdirSync(join(runtime, 'elsewhere'))).toEqual([]);
});

it.each([
  ['127.0.0.1:8080', 'http', '127.0.0.1:8080'],
  ['127.0.0.1:8080', 'https', 'https://127.0.0.1:8080'],
  ['::1:8080', 'http', 'http://[::1]:8080'],
])('shows %s of a listener with %s as a client can use it', async (address, scheme, shown) => {
  const tls = scheme === 'https' ? { key: '/key.pem', certs: '/cert.pem' } : config.tls;
  const withdraw = await announce({ ...config, tls }, address, undefined, runtime);
  const folder = join(runtime, 'dstack-vmm');
  const [name = ''] = readdirSync(folder);
  expect(JSON.parse(readFileSync(join(folder, name), 'utf8')).address).toBe(shown);
  await withdraw?.();
});

/** The host's files, as a host that means harm hands them over. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DISK_MACHINE } from '@dstack-cloud/app';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadHostShared } from './host-shared.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'shared-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('the host’s files', () => {
  const FILES = ['app-compose.json', '.sys-config.json', '.instance_info', '.encrypted-env', '.user-config'];
  const compose = { manifest_version: 2, name: 'x', runner: 'bash', bash_script: 'true', storage_fs: 'ext4' };
  const source = () => join(folder, 'source');
  const write = (): void => {
    mkdirSync(source());
    writeFileSync(join(source(), 'app-compose.json'), JSON.stringify(compose));
    writeFileSync(join(source(), '.sys-config.json'), '{"kms_urls":[],"vm_config":"{}"}');
  };
  const load = () => loadHostShared(source(), join(folder, 'work'), DISK_MACHINE);

  it('are read when they are plain files', async () => {
    write();
    expect((await load()).compose.name).toBe('x');
  });

  const replacements: [string, (path: string) => void][] = [
    ['a link to a secret', (path) => symlinkSync('/etc/shadow', path)],
    ['a link that leads nowhere', (path) => symlinkSync('/nonexistent', path)],
    ['a device', (path) => symlinkSync('/dev/zero', path)],
    ['a pipe that nobody writes to', (path) => execFileSync('mkfifo', [path])],
    ['a folder', (path) => mkdirSync(path)],
    [
      'more bytes than it may have',
      (path) => {
        writeFileSync(path, '');
        truncateSync(path, 2 ** 33);
      },
    ],
  ];
  it.each(FILES.flatMap((name) => replacements.map(([what, make]) => [name, what, make] as const)))(
    '%s as %s is refused',
    async (name, _, make) => {
      write();
      rmSync(join(source(), name), { force: true });
      make(join(source(), name));
      await expect(load()).rejects.toMatchObject({ code: 'host-shared-invalid' });
    },
  );

  it.each(['app-compose.json', '.sys-config.json'])('without %s are refused', async (name) => {
    write();
    rmSync(join(source(), name));
    await expect(load()).rejects.toMatchObject({ code: 'host-shared-invalid' });
  });
});
